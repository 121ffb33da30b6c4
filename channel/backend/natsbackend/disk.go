package natsbackend

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sidestep-dev/sidestep/channel/backend"
)

// diskInterval is how often the free space is looked at. Within it no more can
// be written than the disk takes in that time, which the reserve allows for.
const diskInterval = 250 * time.Millisecond

// maxReserve is kept free for records that are on their way through; on a
// small disk it is a tenth.
const maxReserve = 64 << 20

// disk watches the space that an embedded server has left. After a write that
// fails the server takes nothing more until it is started again; so nothing may
// be written that could fail.
type disk struct {
	dir     string
	reserve int64 // below it nothing new is taken
	free    atomic.Int64
}

func newDisk(dir string) *disk {
	d := &disk{dir: dir}
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err == nil {
		d.reserve = min(maxReserve, int64(s.Blocks)*int64(s.Bsize)/10) //nolint:unconvert // its type differs by platform
	}
	d.look()
	return d
}

// look measures. A file system that does not tell is taken for a large one.
func (d *disk) look() {
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &s); err != nil {
		d.free.Store(1 << 62)
		return
	}
	block := int64(s.Bsize) //nolint:unconvert // its type differs by platform
	d.free.Store(int64(s.Bavail) * block)
}

// room tells whether more than reserve bytes are free: nil, or ErrFull.
func (d *disk) room(reserve int64) error {
	if free := d.free.Load(); free <= reserve {
		return fmt.Errorf("%d bytes left on the disk of %s, %d are kept free: %w",
			free, d.dir, reserve, backend.ErrFull)
	}
	return nil
}

// outside is nil if there is room for events from outside.
func (d *disk) outside() error { return d.room(d.reserve) }

// inside is nil if there is room for what is on its way through: replies,
// spills and dead letters, which let other records be settled.
func (d *disk) inside() error { return d.room(d.reserve / 3) }
