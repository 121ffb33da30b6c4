package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every
// architecture that Go knows.
const tick = time.Second / 100

var errFormat = errors.New("not in the known format")

// CPU is the processor time that the child has used so far, user and system,
// all threads, in steps of 10 ms.
func (c *Child) CPU() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", c.name, err)
	}
	d, err := parseCPU(stat)
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", c.name, err)
	}
	return d, nil
}

// PeakRSS is the most memory that the child has had resident, in bytes.
func (c *Child) PeakRSS() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", c.name, err)
	}
	n, err := parsePeakRSS(status)
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", c.name, err)
	}
	return n, nil
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

// parsePeakRSS reads VmHWM of proc_pid_status(5).
func parsePeakRSS(status []byte) (int64, error) {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte("VmHWM:"))
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
	return 0, errFormat
}
