package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"net/http"
	"strconv"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// How Sidestep hands over what is large by reference: the event has the attribute
// dataref and no data, and the request has a header that no client can send.
const (
	claimHeader = "Sidestep-Claim"
	dataref     = "dataref"
)

type claimKey struct{}

// withClaim notes whether the request came with the header.
func withClaim(ctx context.Context, claim bool) context.Context {
	return context.WithValue(ctx, claimKey{}, claim)
}

// film reads an uncompressed film (YUV4MPEG2, 4:2:0), in parts.
type film struct {
	width, height int
	rate          string // frames in seconds, such as 25:1
	head, frames  int64  // bytes before the first frame; number of frames

	data []byte // all of it, or else
	url  string // where it is
	size int64
	read int64 // of url so far
}

// Bounds on what a film says of itself.
const (
	maxFilmHead = 1 << 10
	maxFilmSide = 8192
	frameMark   = "FRAME\n"
)

// openFilm reads the head of the film that an event is about. A dataref is followed
// only if it is Sidestep's: one that some client sent could lead anywhere.
func openFilm(ctx context.Context, in cloudevents.Event) (*film, error) {
	f := &film{data: in.Data(), size: int64(len(in.Data()))}
	if url, ok := in.Extensions()[dataref].(string); ok && f.size == 0 {
		if ours, _ := ctx.Value(claimKey{}).(bool); !ours {
			return nil, refuse(http.StatusBadRequest, "a dataref of yours is not followed: send the film as data")
		}
		f.data, f.url = nil, url
	}
	head, err := f.part(ctx, 0, maxFilmHead)
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(bytes.NewReader(head)).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "YUV4MPEG2 ") {
		return nil, refuse(http.StatusBadRequest, "want a film in the format YUV4MPEG2")
	}
	f.head = int64(len(line))
	for _, word := range strings.Fields(line)[1:] {
		switch value := word[1:]; word[0] {
		case 'W':
			f.width, _ = strconv.Atoi(value)
		case 'H':
			f.height, _ = strconv.Atoi(value)
		case 'F':
			f.rate = value
		case 'C':
			if !strings.HasPrefix(value, "420") {
				return nil, refuse(http.StatusBadRequest, "want a film in 4:2:0, got %.10q", value)
			}
		}
	}
	if f.width < 2 || f.height < 2 || f.width > maxFilmSide || f.height > maxFilmSide || f.width%2+f.height%2 > 0 {
		return nil, refuse(http.StatusBadRequest, "want a film with even sides up to %d, got %dx%d", maxFilmSide, f.width, f.height)
	}
	f.frames = (f.size - f.head) / f.frameBytes()
	return f, nil
}

func (f *film) frameBytes() int64 { return int64(len(frameMark) + f.width*f.height*3/2) }

func (f *film) String() string {
	return fmt.Sprintf("%dx%d, %d frames at %s per second", f.width, f.height, f.frames, f.rate)
}

// part reads some of the film: of a reference, nothing but that is transferred.
func (f *film) part(ctx context.Context, from, n int64) ([]byte, error) {
	if f.url == "" {
		if from >= f.size {
			return nil, refuse(http.StatusBadRequest, "the film is too short")
		}
		return f.data[from:min(from+n, f.size)], nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("read film: %w", err)
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+n-1))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read film: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		return nil, fmt.Errorf("read film: %s", resp.Status)
	}
	part, err := io.ReadAll(io.LimitReader(resp.Body, n))
	f.read += int64(len(part))
	if err != nil {
		return nil, fmt.Errorf("read film: %w", err)
	}
	_, size, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
	if f.size, err = strconv.ParseInt(size, 10, 64); err != nil {
		return nil, fmt.Errorf("read film: its size: %w", err)
	}
	return part, nil
}

// probe adds what a film is to its event, and passes on the film as it came.
func probe(ctx context.Context, _ string, in cloudevents.Event) (outcome, error) {
	f, err := openFilm(ctx, in)
	if err != nil {
		return outcome{}, err
	}
	out := in.Clone()
	out.SetType("dev.sidestep.samples.film.probed")
	out.SetExtension("filmsize", fmt.Sprintf("%dx%d", f.width, f.height))
	out.SetExtension("filmframes", strconv.FormatInt(f.frames, 10))
	return outcome{event: &out, note: f.note(f.String())}, nil
}

// poster makes a picture of the frame in the middle.
func poster(ctx context.Context, _ string, in cloudevents.Event) (outcome, error) {
	f, err := openFilm(ctx, in)
	if err != nil {
		return outcome{}, err
	}
	n := f.frameBytes()
	frame, err := f.part(ctx, f.head+f.frames/2*n, n)
	if err != nil {
		return outcome{}, err
	}
	if int64(len(frame)) != n || string(frame[:len(frameMark)]) != frameMark {
		return outcome{}, refuse(http.StatusBadRequest, "the film has no frame in its middle")
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, planes(frame[len(frameMark):], f.width, f.height), &jpeg.Options{Quality: jpegQuality}); err != nil {
		return outcome{}, fmt.Errorf("encode picture: %w", err)
	}
	out := in.Clone()
	out.SetType("dev.sidestep.samples.picture.poster")
	out.SetExtension(dataref, nil)
	if err := out.SetData("image/jpeg", b.Bytes()); err != nil {
		return outcome{}, fmt.Errorf("set data: %w", err)
	}
	return outcome{event: &out, note: f.note("frame " + strconv.FormatInt(f.frames/2, 10))}, nil
}

func (f *film) note(what string) string {
	if f.url == "" {
		return what
	}
	return fmt.Sprintf("%s; read %d of %d bytes", what, f.read, f.size)
}

// planes is a frame as a picture.
func planes(frame []byte, width, height int) *image.YCbCr {
	luma := width * height
	return &image.YCbCr{
		Y: frame[:luma], Cb: frame[luma : luma+luma/4], Cr: frame[luma+luma/4:],
		YStride: width, CStride: width / 2, SubsampleRatio: image.YCbCrSubsampleRatio420,
		Rect: image.Rect(0, 0, width, height),
	}
}
