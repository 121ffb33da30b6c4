package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// collector keeps what it is sent in files, one for each event id: an event
// that comes twice is kept once.
type collector struct{ folder string }

func (c *collector) step(_ context.Context, _ string, in cloudevents.Event) (outcome, error) {
	path := filepath.Join(c.folder, fileName(in))
	if err := c.write(path, in.Data()); err != nil {
		return outcome{}, fmt.Errorf("collect: %w", err)
	}
	out := outcome{note: path, file: path, bytes: len(in.Data())}
	if code, ok := in.Extensions()["knativeerrorcode"]; ok {
		out.note += fmt.Sprint(" after code ", code)
	}
	return out, nil
}

// write makes the file beside its place first: a file that is there is whole.
func (c *collector) write(path string, data []byte) error {
	if err := os.MkdirAll(c.folder, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(c.folder, ".collecting-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error that matters is the first
	}
	return err
}

// fileName is made of the event's subject and id. They come from outside: no
// path can be made with them.
func fileName(in cloudevents.Event) string {
	const most = 60
	clean := func(s string) string {
		s = strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
				return r
			}
			return '-'
		}, s)
		return s[:min(len(s), most)]
	}
	name := clean(in.ID())
	if subject := clean(in.Subject()); subject != "" {
		name = subject + "-" + name
	}
	switch data := in.Data(); {
	case bytes.HasPrefix(data, pngMagic):
		return name + ".png"
	case bytes.HasPrefix(data, jpegMagic):
		return name + ".jpg"
	}
	return name + ".bin" // a dead letter may be anything
}
