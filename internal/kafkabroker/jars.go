package kafkabroker

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Version of the broker, as in pom.xml.
const Version = "4.4.0"

//go:embed pom.xml
var pom []byte

// Available says why no broker can be started here, or nil.
func Available() error {
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("no Kafka broker without %s: %w", program, err)
		}
	}
	return nil
}

// jars returns the folder with the broker's jars, after having mvn fill it the
// first time.
func jars(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the broker's jars: %w", err)
	}
	dir := filepath.Join(cache, "sidestep", "kafka-"+Version)
	want, complete := filepath.Join(dir, "pom.xml"), filepath.Join(dir, "jars")
	if have, err := os.ReadFile(want); err == nil && bytes.Equal(have, pom) {
		return complete, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	// In a folder of its own first: two processes may do this at once.
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "kafka-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, "pom.xml"), pom, 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "mvn", "-B", "-q", "-f", filepath.Join(tmp, "pom.xml"),
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(tmp, "jars"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("have mvn fetch Kafka %s: %w\n%s", Version, err, out)
	}
	if err := os.Rename(tmp, dir); err != nil {
		// Another process was first, or an older list of jars is in the way.
		if have, err := os.ReadFile(want); err == nil && bytes.Equal(have, pom) {
			return complete, nil
		}
		if err := errors.Join(os.RemoveAll(dir), os.Rename(tmp, dir)); err != nil {
			return "", fmt.Errorf("keep the broker's jars: %w", err)
		}
	}
	return complete, nil
}
