package main

import (
	"bytes"
	"image"
	"image/draw"
	_ "image/jpeg"
	_ "image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What the repository keeps is what the generator makes. Pixels are compared,
// and not bytes: encoders may change with Go, and the last bit of a sine with
// the processor.
func TestThePicturesDoNotDriftFromTheirGenerator(t *testing.T) {
	t.Parallel()
	for _, p := range pictures() {
		t.Run(p.file, func(t *testing.T) {
			t.Parallel()
			data, err := p.encode()
			if err != nil {
				t.Fatal(err)
			}
			kept, err := os.ReadFile(p.file)
			if err != nil {
				t.Fatalf("%v; run go generate here", err)
			}
			if got := difference(t, decode(t, kept), decode(t, data)); got > 0.5 {
				t.Errorf("the pixels differ by %.2f of 255 in the mean; run go generate here", got)
			}
		})
	}
}

func TestNoPictureIsLargeNorLeftOver(t *testing.T) {
	t.Parallel()
	const most = 100 << 10
	var want []string
	for _, p := range pictures() {
		want = append(want, p.file)
	}
	var got []string
	for _, pattern := range []string{"*.jpg", "*.png"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, files...)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the folder has %v, the generator makes %v", got, want)
	}
	for _, file := range got {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > most {
			t.Errorf("%s has %d bytes, want at most %d", file, info.Size(), most)
		}
	}
}

func decode(t *testing.T, data []byte) *image.RGBA {
	t.Helper()
	src, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	dst := image.NewRGBA(src.Bounds())
	draw.Draw(dst, dst.Bounds(), src, src.Bounds().Min, draw.Src)
	return dst
}

// difference is the mean over all values.
func difference(t *testing.T, a, b *image.RGBA) float64 {
	t.Helper()
	if a.Bounds() != b.Bounds() {
		t.Fatalf("bounds are %v and %v; run go generate here", a.Bounds(), b.Bounds())
	}
	var sum int
	for i := range a.Pix {
		sum += max(int(a.Pix[i])-int(b.Pix[i]), int(b.Pix[i])-int(a.Pix[i]))
	}
	return float64(sum) / float64(len(a.Pix))
}
