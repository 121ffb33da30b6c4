// Package machine tells what a benchmark ran on, and how much of it others used
// meanwhile.
package machine

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Machine is what numbers were measured on.
type Machine struct {
	Cores                  int
	Model, Kernel, Go, Dir string
}

// Describe is this machine, with stores in the folder dir.
func Describe(dir string) Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Model: "unknown", Kernel: "unknown", Dir: "unknown"}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.Model = modelName(info)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err == nil {
		m.Dir = fileSystem(int64(fs.Type))
	}
	return m
}

func modelName(cpuinfo []byte) string {
	for line := range bytes.Lines(cpuinfo) {
		if rest, ok := bytes.CutPrefix(line, []byte("model name")); ok {
			return string(bytes.TrimSpace(bytes.TrimLeft(rest, "\t :")))
		}
	}
	return runtime.GOARCH
}

// fileSystem names those that temporary folders are usually on (statfs(2)).
func fileSystem(magic int64) string {
	switch magic {
	case 0xEF53:
		return "ext4"
	case 0x58465342:
		return "xfs"
	case 0x9123683E:
		return "btrfs"
	case 0x01021994:
		return "tmpfs"
	case 0x794C7630:
		return "overlayfs"
	default:
		return fmt.Sprintf("file system %#x", magic)
	}
}

func (m Machine) String() string {
	return fmt.Sprintf("%d cores (%s), Linux %s, %s, stores on %s", m.Cores, m.Model, m.Kernel, m.Go, m.Dir)
}

// Foreign watches how much processor time goes to who is not part of this.
type Foreign struct {
	at        time.Time
	busy, own time.Duration
}

// WatchForeign begins to.
func WatchForeign() Foreign {
	f := Foreign{at: time.Now()}
	f.busy, f.own = busyTime(), ownTime()
	return f
}

// Part tells how much of all processor time others have used since f was made:
// 0 to 1, NaN if it is not known. All children must have ended.
func (f Foreign) Part() float64 {
	all := time.Since(f.at) * time.Duration(runtime.NumCPU())
	now := busyTime()
	if now == 0 || all <= 0 {
		return math.NaN()
	}
	others := (now - f.busy) - (ownTime() - f.own)
	return math.Max(0, float64(others)/float64(all))
}

// ownTime is what this process and its children that ended have used.
func ownTime() time.Duration {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return total
}

// busyTime is what all processors have spent on work, 0 if it is not known.
func busyTime() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	return parseBusy(stat)
}

// parseBusy adds up user, nice, system, irq, softirq and steal of the first
// line of proc_stat(5), in USER_HZ.
func parseBusy(stat []byte) time.Duration {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100)
}
