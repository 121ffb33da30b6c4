package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"net/http"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/inconsolata"
	"golang.org/x/image/math/fixed"
)

const (
	maxPixels   = 64 << 20 // what a small process decodes at most
	thumbnail   = 480      // the longer side of a small picture
	jpegQuality = 88
)

// How the data of pictures begin.
var (
	pngMagic  = []byte("\x89PNG\r\n\x1a\n")
	jpegMagic = []byte("\xff\xd8\xff")
)

// edit makes a picture of a picture; in is the event that brought it.
type edit func(in cloudevents.Event, src image.Image) image.Image

// picture makes a step of an edit. The answer is the event that came, with
// another picture and a type that says what was done to it.
func picture(done string, do edit) step {
	return func(_ context.Context, _ string, in cloudevents.Event) (outcome, error) {
		src, err := decode(in.Data())
		if err != nil {
			return outcome{}, err
		}
		dst := do(in, src)
		var b bytes.Buffer
		if err := jpeg.Encode(&b, dst, &jpeg.Options{Quality: jpegQuality}); err != nil {
			return outcome{}, fmt.Errorf("encode picture: %w", err)
		}
		out := in.Clone()
		out.SetType("dev.sidestep.samples.picture." + done)
		if err := out.SetData("image/jpeg", b.Bytes()); err != nil {
			return outcome{}, fmt.Errorf("set data: %w", err)
		}
		return outcome{event: &out, note: size(src) + " -> " + size(dst)}, nil
	}
}

func size(p image.Image) string {
	return fmt.Sprintf("%dx%d", p.Bounds().Dx(), p.Bounds().Dy())
}

// decode reads a JPEG or PNG. What is none, or is too large, is the sender's
// fault: trying again is of no use.
func decode(data []byte) (image.Image, error) {
	config, full := jpeg.DecodeConfig, jpeg.Decode
	if bytes.HasPrefix(data, pngMagic) {
		config, full = png.DecodeConfig, png.Decode
	}
	c, err := config(bytes.NewReader(data))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "want a JPEG or PNG as data: %v", err)
	}
	if c.Width*c.Height > maxPixels {
		return nil, refuse(http.StatusBadRequest, "picture has %dx%d pixels, want at most %d", c.Width, c.Height, maxPixels)
	}
	p, err := full(bytes.NewReader(data))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "want a JPEG or PNG as data: %v", err)
	}
	return p, nil
}

// resize makes the longer side thumbnail pixels long; it enlarges nothing.
func resize(_ cloudevents.Event, src image.Image) image.Image {
	w, h := src.Bounds().Dx(), src.Bounds().Dy()
	longer := max(w, h)
	if longer <= thumbnail {
		return src
	}
	dst := image.NewRGBA(image.Rect(0, 0, max(1, w*thumbnail/longer), max(1, h*thumbnail/longer)))
	draw.CatmullRom.Scale(dst, dst.Bounds(), src, src.Bounds(), draw.Src, nil)
	return dst
}

// caption adds a bar with the event's caption extension, or else its subject.
func caption(in cloudevents.Event, src image.Image) image.Image {
	const (
		zoom   = 2
		margin = 8
	)
	text, _ := in.Extensions()["caption"].(string)
	if text == "" {
		text = in.Subject()
	}
	if text == "" {
		text = in.ID()
	}
	face := inconsolata.Bold8x16
	w, h := src.Bounds().Dx(), src.Bounds().Dy()
	bar := zoom*face.Height + 2*margin
	dst := image.NewRGBA(image.Rect(0, 0, w, h+bar))
	draw.Draw(dst, image.Rect(0, 0, w, h), src, src.Bounds().Min, draw.Src)
	draw.Draw(dst, image.Rect(0, h, w, h+bar), image.NewUniform(color.RGBA{24, 26, 32, 255}), image.Point{}, draw.Src)

	text = fit(text, (w-2*margin)/(zoom*face.Advance))
	label := image.NewRGBA(image.Rect(0, 0, max(1, len(text)*face.Advance), face.Height))
	drawer := font.Drawer{
		Dst:  label,
		Src:  image.NewUniform(color.RGBA{240, 236, 224, 255}),
		Face: face,
		Dot:  fixed.P(0, face.Ascent),
	}
	drawer.DrawString(text)
	at := image.Pt(margin, h+margin)
	draw.NearestNeighbor.Scale(dst, image.Rectangle{at, at.Add(label.Bounds().Size().Mul(zoom))}, label, label.Bounds(), draw.Over, nil)
	return dst
}

// fit shortens text to n letters of the font, which has ASCII only.
func fit(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	switch {
	case len(text) <= n:
		return text
	case n <= 3:
		return text[:max(n, 0)]
	default:
		return text[:n-3] + "..."
	}
}

// frame darkens the corners and lays the picture on a mat.
func frame(_ cloudevents.Event, src image.Image) image.Image {
	const (
		mat  = 22
		edge = 3
	)
	w, h := src.Bounds().Dx(), src.Bounds().Dy()
	dst := image.NewRGBA(image.Rect(0, 0, w+2*mat, h+2*mat))
	inside := image.Rect(mat, mat, mat+w, mat+h)
	draw.Draw(dst, dst.Bounds(), image.NewUniform(color.RGBA{244, 240, 230, 255}), image.Point{}, draw.Src)
	draw.Draw(dst, inside.Inset(-edge), image.NewUniform(color.RGBA{96, 72, 48, 255}), image.Point{}, draw.Src)
	draw.Draw(dst, inside, src, src.Bounds().Min, draw.Src)
	for y := range h {
		for x := range w {
			c := dst.RGBAAt(mat+x, mat+y)
			// 0 in the middle, 1 at the end of an axis.
			dx, dy := float64(2*x-w)/float64(w), float64(2*y-h)/float64(h)
			light := 1 - 0.35*(dx*dx+dy*dy)/2
			dst.SetRGBA(mat+x, mat+y, color.RGBA{
				tone(float64(c.R) * light), tone(float64(c.G) * light), tone(float64(c.B) * light), 255,
			})
		}
	}
	return dst
}

// sepia makes a picture look old.
func sepia(_ cloudevents.Event, src image.Image) image.Image {
	dst := image.NewRGBA(image.Rectangle{Max: src.Bounds().Size()})
	draw.Draw(dst, dst.Bounds(), src, src.Bounds().Min, draw.Src)
	for i := 0; i < len(dst.Pix); i += 4 {
		p := dst.Pix[i : i+3 : i+3]
		grey := 0.299*float64(p[0]) + 0.587*float64(p[1]) + 0.114*float64(p[2])
		p[0], p[1], p[2] = tone(1.07*grey+10), tone(0.90*grey+6), tone(0.68*grey)
	}
	return dst
}

func tone(v float64) uint8 { return uint8(min(max(v, 0), 255)) }

// sortByShape is a filter of a Parallel: it lets through what has the shape
// that the path asks for, by answering with it, and else answers with nothing.
func sortByShape(_ context.Context, path string, in cloudevents.Event) (outcome, error) {
	if path != "/wide" && path != "/tall" {
		return outcome{}, refuse(http.StatusBadRequest, "want the path /wide or /tall, got %q", path)
	}
	p, err := decode(in.Data())
	if err != nil {
		return outcome{}, err
	}
	wide := p.Bounds().Dx() >= p.Bounds().Dy()
	if wide != (path == "/wide") {
		return outcome{note: size(p) + " is not " + path[1:]}, nil
	}
	return outcome{event: &in, note: size(p) + " is " + path[1:]}, nil
}
