// Command pictures draws the pictures of the samples, so that the repository
// has some that are nobody's, and small:
//
//	scene: colour at (x, y) --> [ render: 4 samples a pixel ] --> encode --> NAME.jpg, NAME.png
//
// It writes them into the folder that it is run in.
package main

import (
	"bytes"
	"fmt"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
)

//go:generate go run .

// quality of the JPEGs: under 100 KiB, and nothing to be seen of it.
const quality = 84

func main() {
	if err := writeAll("."); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func writeAll(folder string) error {
	for _, p := range pictures() {
		data, err := p.encode()
		if err != nil {
			return fmt.Errorf("encode %s: %w", p.file, err)
		}
		if err := os.WriteFile(filepath.Join(folder, p.file), data, 0o644); err != nil {
			return fmt.Errorf("write picture: %w", err)
		}
	}
	return nil
}

// picture is a scene and how it is kept.
type picture struct {
	file          string
	width, height int
	scene         scene
}

func pictures() []picture {
	return []picture{
		{"balloons.png", 640, 800, balloons},
		{"dunes.jpg", 1000, 640, dunes},
		{"harbour.png", 960, 640, harbour},
		{"lighthouse.jpg", 600, 900, lighthouse},
	}
}

func (p *picture) encode() ([]byte, error) {
	var b bytes.Buffer
	var err error
	img := render(p.width, p.height, p.scene)
	if filepath.Ext(p.file) == ".png" {
		err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img)
	} else {
		err = jpeg.Encode(&b, img, &jpeg.Options{Quality: quality})
	}
	return b.Bytes(), err
}
