package process

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every
// architecture that Go knows.
const tick = time.Second / 100

var errFormat = errors.New("not in the known format")

// The fields of proc_pid_status(5) that Memory knows: what is resident now, and
// the most that ever was.
const (
	Resident = "VmRSS"
	Peak     = "VmHWM"
)

// CPU is the processor time that a process has used so far, user and system,
// all threads, in steps of 10 ms.
func CPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	d, err := parseCPU(stat)
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return d, nil
}

// Memory is what a process has in memory, in bytes.
func Memory(pid int, field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	n, err := parseMemory(status, field)
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	return n, nil
}

// PID is the process's.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// CPU is CPU of the child.
func (c *Child) CPU() (time.Duration, error) {
	d, err := CPU(c.cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.name, err)
	}
	return d, nil
}

// PeakRSS is the most memory that the child has had resident, in bytes.
func (c *Child) PeakRSS() (int64, error) {
	n, err := Memory(c.cmd.Process.Pid, Peak)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.name, err)
	}
	return n, nil
}

// Connections counts the established TCP connections of a process to an IPv4 address.
func Connections(pid int, to string) (n int, err error) {
	address, err := netip.ParseAddrPort(to)
	if err != nil {
		return 0, fmt.Errorf("count connections: %w", err)
	}
	sockets, err := socketsOf(pid)
	if err != nil {
		return 0, fmt.Errorf("count connections: %w", err)
	}
	for _, name := range []string{"tcp", "tcp6"} {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if err != nil {
			return 0, fmt.Errorf("count connections: %w", err)
		}
		n += countConnections(table, address, sockets)
	}
	return n, nil
}

// socketsOf are the inodes of a process's sockets.
func socketsOf(pid int) (map[string]bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	sockets := make(map[string]bool)
	for _, f := range files {
		to, err := os.Readlink(dir + "/" + f.Name())
		if inode, is := strings.CutPrefix(to, "socket:["); err == nil && is {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return sockets, nil
}

// countConnections reads the fields rem_address, st and inode of proc_net_tcp(5). An
// address is in the machine's byte order: that of all that this runs on.
func countConnections(table []byte, to netip.AddrPort, sockets map[string]bool) (n int) {
	ip := to.Addr().As4()
	remote := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], to.Port())
	const established = "01"
	for line := range bytes.Lines(table) {
		f := strings.Fields(string(line))
		if len(f) > 9 && strings.HasSuffix(f[2], remote) && f[3] == established && sockets[f[9]] {
			n++
		}
	}
	return n
}

// parseCPU reads utime and stime, the 14th and 15th field of proc_pid_stat(5).
// The second is a name in parentheses that may hold anything.
func parseCPU(stat []byte) (time.Duration, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errFormat
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errFormat, err)
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errFormat, err)
	}
	return time.Duration(user+system) * tick, nil
}

// parseMemory reads a field of proc_pid_status(5) that is in kB.
func parseMemory(status []byte, field string) (int64, error) {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte(field+":"))
		if !ok {
			continue
		}
		kib, ok := bytes.CutSuffix(bytes.TrimSpace(rest), []byte(" kB"))
		if !ok {
			break
		}
		n, err := strconv.ParseInt(string(kib), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errFormat, err)
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("%s: %w", field, errFormat)
}
