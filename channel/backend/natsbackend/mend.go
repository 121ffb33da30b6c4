package natsbackend

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"
)

// A server keeps, in its folder:
//
//	jetstream/ACCOUNT/streams/STREAM/meta.inf   its configuration
//	                                 meta.sum   the checksum of meta.inf
//	                                 msgs/      its records
//	                                 obs/CONSUMER/meta.inf, meta.sum
//	                                              o.dat, its position
//
// It replaces meta.inf and then meta.sum, each as a whole, but not both at once.
// If it dies in between, the server that is started next passes over the stream
// with all its records, or over the consumer, and only logs a warning (nats-server
// 2.15, Account.EnableJetStream). The stream that is then made in its place has no
// consumers, and what it held is dropped. A server of a cluster is not affected:
// there the cluster's own log says which streams there are.

// mendFiles makes the files in dir whole before a server reads them. A checksum that is
// not that of the configuration beside it is written anew. A consumer that was half
// made or half deleted is removed: nobody was told that it is there. A configuration
// that cannot be read is an error, which names it: a server would start without
// its records.
func mendFiles(dir string, log *slog.Logger) error {
	streams, err := filepath.Glob(filepath.Join(escape(dir), server.JetStreamStoreDir, "*", "streams", "*"))
	if err != nil {
		return fmt.Errorf("look for streams in %s: %w", dir, err)
	}
	for _, s := range streams {
		if strings.HasPrefix(filepath.Base(s), ".") {
			continue // deleted: the server removes it
		}
		if err := mendStream(s, log); err != nil {
			return err
		}
	}
	return nil
}

// escape has a path mean itself as a pattern.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func mendStream(dir string, log *slog.Logger) error {
	stream := filepath.Base(dir)
	// The keys are the server's.
	if err := mendSum(dir, stream, log); err != nil {
		return err
	}
	consumers, err := os.ReadDir(filepath.Join(dir, "obs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for consumers of stream %s: %w", stream, err)
	}
	for _, c := range consumers {
		if err := mendConsumer(filepath.Join(dir, "obs", c.Name()), stream+"/"+c.Name(), log); err != nil {
			return err
		}
	}
	return nil
}

// mendConsumer sees to one consumer. The server writes its configuration once, and
// wants no more of the checksum than that it is there.
func mendConsumer(dir, key string, log *slog.Logger) error {
	_, err := os.Stat(filepath.Join(dir, server.JetStreamMetaFileSum))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A consumer that was made to its end has a position.
	switch _, err = os.Stat(filepath.Join(dir, "o.dat")); {
	case err == nil:
		return mendSum(dir, key, log)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	log.Warn("removing a consumer that was half made, or half deleted, when its server died", "files", dir)
	return os.RemoveAll(dir)
}

// mendSum has the checksum in dir be that of the configuration.
func mendSum(dir, key string, log *slog.Logger) error {
	path := filepath.Join(dir, server.JetStreamMetaFile)
	meta, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is being made, or deleted
	}
	if err != nil {
		return err
	}
	want, err := checksum(meta, key)
	if err != nil {
		return err
	}
	sum := filepath.Join(dir, server.JetStreamMetaFileSum)
	if got, err := os.ReadFile(sum); err == nil && string(got) == want {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !json.Valid(meta) {
		return fmt.Errorf("%s is damaged: restore it from a backup, or move %s away to go on without the records in it", path, dir)
	}
	log.Warn("writing the checksum of a configuration whose server died before it had", "files", dir)
	// One that is cut off here is written again by the next that looks.
	return os.WriteFile(sum, []byte(want), 0o600)
}

// checksum of a configuration, as the server writes it.
func checksum(meta []byte, key string) (string, error) {
	k := sha256.Sum256([]byte(key))
	h, err := highwayhash.NewDigest64(k[:])
	if err != nil {
		return "", err
	}
	h.Write(meta)
	return hex.EncodeToString(h.Sum(nil)), nil
}
