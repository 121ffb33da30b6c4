// Kafkad starts and ends the Kafka broker that developers share on their
// machine; see package kafkabroker. hack/kafka calls it.
//
//	kafkad up        start it, unless it runs, and print its address
//	kafkad address   print its address
//	kafkad down      end it and remove what it stored
//	kafkad which     say which broker tests use, or why none
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sidestep-dev/sidestep/internal/kafkabroker"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kafka:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	s := state(filepath.Join(os.TempDir(), fmt.Sprintf("sidestep-kafka-%d", os.Getuid())))
	switch strings.Join(args, " ") {
	case "up":
		return s.up()
	case "down":
		return s.down()
	case "which":
		fmt.Println("Kafka tests:", which())
		return nil
	case "address":
		address, _, err := s.running()
		if err == nil {
			fmt.Println(address)
		}
		return err
	}
	return errors.New("usage: hack/kafka up | down | address | which")
}

// state is the folder with the broker's data and a file that says where it is.
type state string

func (s state) file() string { return filepath.Join(string(s), "running") }

// running returns the broker's address and process.
func (s state) running() (address string, pid int, err error) {
	text, err := os.ReadFile(s.file())
	if err != nil {
		return "", 0, errors.New("it does not run (hack/kafka up starts it)")
	}
	address, number, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if pid, err = strconv.Atoi(number); err != nil || pid <= 1 {
		return "", 0, fmt.Errorf("%s is damaged", s.file())
	}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil && !strings.Contains(string(command), string(s)) {
		return "", 0, errors.New("it does not run any more")
	}
	return address, pid, syscall.Kill(pid, 0)
}

func (s state) up() error {
	if address, _, err := s.running(); err == nil {
		fmt.Println(address)
		return nil
	}
	if err := os.RemoveAll(string(s)); err != nil {
		return err
	}
	if err := os.MkdirAll(string(s), 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	b, err := kafkabroker.Start(ctx, kafkabroker.Options{Dir: string(s), Detached: true})
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.file(), fmt.Appendf(nil, "%s %d\n", b.Address, b.Pid()), 0o600); err != nil {
		b.Kill()
		return err
	}
	fmt.Println(b.Address)
	fmt.Fprintf(os.Stderr, "Kafka %s runs; SIDESTEP_KAFKA=%s has the tests use it\n", kafkabroker.Version, b.Address)
	return nil
}

func (s state) down() error {
	if _, pid, err := s.running(); err == nil {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
		for syscall.Kill(pid, 0) == nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	return os.RemoveAll(string(s))
}

// which broker do tests use? As package kafkatest decides it.
func which() string {
	if address := os.Getenv("SIDESTEP_KAFKA"); address != "" {
		return "ran on the broker at " + address + " (SIDESTEP_KAFKA), and on kfake"
	}
	if err := kafkabroker.Available(); err != nil {
		return "ran on kfake ONLY, and were skipped where that does not do: " + err.Error()
	}
	return "ran on Apache Kafka " + kafkabroker.Version + ", started for them, and on kfake"
}
