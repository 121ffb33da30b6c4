package sidecar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sidestep-dev/sidestep/channel/egress"
	"github.com/sidestep-dev/sidestep/channel/event"
	"github.com/sidestep-dev/sidestep/colocate/wire"
)

// dataref is the attribute of CloudEvents' Dataref extension.
const dataref = "dataref"

// link is the URL of a payload, as the steps see it.
func (f *file) link() string {
	return (&url.URL{Scheme: "file", Path: filepath.Join(f.spool.dir, f.name)}).String()
}

// byReference is e with a link instead of its payload, and the headers that say
// so; e itself, and "", if it has to be handed over by value.
func byReference(e *event.Event, extra []event.Attribute) (*event.Event, string, []event.Attribute) {
	f, ok := e.Payload.(*file)
	if !ok || e.Get(dataref) != "" { // a client's own is not ours to replace
		return e, "", extra
	}
	link := f.link()
	referring := e.With(event.Attribute{Name: dataref, Value: link})
	referring.Payload = nil
	claim := event.Attribute{Name: wire.ClaimHeader, Value: fmt.Sprintf("size=%d", f.size)}
	return referring, link, append(append([]event.Attribute(nil), extra...), claim)
}

// resolve takes in the file that a step's answer refers to, on behalf of a chain.
// What refers to something else is left as it is. Errors are the step's,
// ErrReply, or ErrPayloadFull.
func (s *spool) resolve(owner string, reply, sent *event.Event, link string) (*event.Event, error) {
	ref := reply.Get(dataref)
	if s.root == nil || ref == "" || reply.Size() > 0 {
		return reply, nil
	}
	if ref == link { // it was passed on unchanged
		return without(reply, sent.Payload, nil), nil
	}
	name, ours := s.within(ref)
	if !ours {
		return reply, nil
	}
	if err := s.check(name); err != nil {
		return nil, fmt.Errorf("%w: dataref %.128q: %w", egress.ErrReply, ref, err)
	}
	f, data, err := s.adopt(owner, name)
	if err != nil {
		if !errors.Is(err, event.ErrPayloadFull) {
			err = fmt.Errorf("%w: dataref %.128q: %w", egress.ErrReply, ref, err)
		}
		return nil, err
	}
	if f == nil {
		return without(reply, nil, data), nil
	}
	return without(reply, f, nil), nil
}

// without is e with its data instead of the dataref.
func without(e *event.Event, p event.Payload, data []byte) *event.Event {
	c := *e
	c.Payload, c.Data, c.Attributes = p, data, nil
	for _, a := range e.Attributes {
		if a.Name != dataref {
			c.Attributes = append(c.Attributes, a)
		}
	}
	return &c
}

// within tells whether a dataref points beneath the folder, by its text alone,
// and at what.
func (s *spool) within(ref string) (name string, ours bool) {
	u, err := url.Parse(ref)
	if err != nil || !strings.EqualFold(u.Scheme, "file") || (u.Host != "" && u.Host != "localhost") {
		return "", false
	}
	return strings.CutPrefix(u.Path, strings.TrimSuffix(s.dir, "/")+"/")
}

var (
	errPath    = errors.New("want the plain path of a file beneath the folder for claims")
	errRegular = errors.New("not a regular file")
	errOurs    = errors.New("it belongs to another chain")
)

// check refuses paths that a step has no reason to write: with dots, through a
// link, of our own files. The folder is shared with the steps, so that what is
// found here may change: what is opened afterwards is opened within the root, and
// looked at again.
func (s *spool) check(name string) error {
	if !filepath.IsLocal(name) || path.Clean(name) != name || name == "." {
		return errPath
	}
	if strings.HasPrefix(name, spoolPrefix) || name == lockName {
		return errOurs
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		info, err := s.root.Lstat(name[:i])
		if err != nil {
			return plain(err)
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is no folder: %w", name[:i], errPath)
		}
	}
	return nil
}

// adopt makes a step's file one of the chain's: under a name of ours, so that no
// other answer can name it again. What belongs into memory is read and deleted.
func (s *spool) adopt(owner, name string) (*file, []byte, error) {
	before, err := s.root.Lstat(name)
	if err != nil {
		return nil, nil, plain(err)
	}
	if !before.Mode().IsRegular() {
		return nil, nil, errRegular
	}
	f := &file{spool: s, name: fmt.Sprintf("%s%d", s.name, s.next.Add(1))}
	if err := s.root.Rename(name, f.name); err != nil {
		return nil, nil, plain(err)
	}
	s.keep(owner, f)
	data, err := s.take(f)
	if err != nil || f.size <= int64(s.inline) {
		s.remove(owner, f)
		return nil, data, err
	}
	return f, nil, nil
}

// take looks at a file that was just adopted.
func (s *spool) take(f *file) (data []byte, err error) {
	info, err := s.root.Lstat(f.name)
	if err != nil {
		return nil, plain(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errRegular
	}
	// Should it be exchanged for a pipe just now, opening it must not hang.
	r, err := s.root.OpenFile(f.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, plain(err)
	}
	defer r.Close()
	opened, err := r.Stat()
	if err != nil {
		return nil, plain(err)
	}
	if !os.SameFile(info, opened) || !opened.Mode().IsRegular() {
		return nil, errRegular
	}
	f.size = opened.Size()
	if f.size > s.most {
		return nil, fmt.Errorf("%w: a file of %d bytes, at most %d are taken", event.ErrPayloadFull, f.size, s.most)
	}
	if f.size > int64(s.inline) {
		return nil, s.reserve(f, f.size)
	}
	if f.size == 0 {
		return nil, nil
	}
	data = make([]byte, f.size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, plain(err)
	}
	return data, nil
}

// plain is an error without the name that the file has by now.
func plain(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
