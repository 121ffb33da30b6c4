package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// A server that begins a cluster expects at least one other that keeps data, and
// waits for it for ever. One that finds the members of its cluster in a file goes
// on from there: so that a cluster may begin with one server, beginAlone makes
// that file. And it does nothing before it has a route to some server: company
// is one, in the same process, which keeps nothing and which nobody outside reaches.

// peersFile is where a server keeps the members of its cluster, under Config.Dir.
var peersFile = filepath.Join(server.JetStreamStoreDir, server.DEFAULT_SYSTEM_ACCOUNT, "_js_", "_meta_", "peers.idx")

// beginAlone makes the file of a cluster whose one member is the server of that
// name, unless there is one already.
func beginAlone(dir, name string) error {
	file := filepath.Join(dir, peersFile)
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("begin a cluster of one: %w", err)
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 1)   // size of the cluster
	b = le.AppendUint32(b, 1)      // members that are known
	b = append(b, member(name)...) // this one
	b = le.AppendUint16(b, 0)      // nothing known of other domains
	tmp := file + ".tmp"           // a crash leaves the file or none
	err := os.WriteFile(tmp, b, 0o600)
	if err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		return fmt.Errorf("begin a cluster of one: %w", err)
	}
	return nil
}

// member is what a cluster calls the server of that name.
func member(name string) string {
	const (
		digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		length = 8
	)
	sum := sha256.Sum256([]byte(name))
	for i := range length {
		sum[i] = digits[int(sum[i])%len(digits)]
	}
	return string(sum[:length])
}

// company are the options of a server that is there for another to have a route.
func company(of *server.Options) *server.Options {
	return &server.Options{
		ServerName: of.ServerName + "-companion",
		Host:       "127.0.0.1", // routing begins only where clients are listened for
		Port:       server.RANDOM_PORT,
		NoSigs:     true,
		Username:   of.Username,
		Password:   of.Password,
		Cluster: server.ClusterOpts{
			Name: of.Cluster.Name, Username: of.Username, Password: of.Password,
			Host: "127.0.0.1", Port: server.RANDOM_PORT,
		},
		Routes: of.Routes,
	}
}
