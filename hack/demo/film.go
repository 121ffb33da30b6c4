package main

import (
	"bufio"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
)

// The film of the demo: the eye wanders over a picture of the repository.
const (
	filmFile   = "wander.y4m"
	filmType   = "dev.sidestep.samples.film"
	filmSource = "dunes.jpg"
	filmWidth  = 640
	filmHeight = 360
	filmFrames = 125 // 5 s
)

// letter is the event of a scene.
func (st *stage) letter(id string, sc scene) (letter, error) {
	if sc.file != filmFile {
		return readLetter(id, sc.kind, filepath.Join(st.pictures, sc.file))
	}
	path := filepath.Join(st.folders.bin, filmFile)
	if err := makeFilm(path, filepath.Join(st.pictures, filmSource)); err != nil {
		return letter{}, fmt.Errorf("make a film: %w", err)
	}
	return readLetter(id, sc.kind, path)
}

// makeFilm writes an uncompressed film (YUV4MPEG2, 4:2:0) of about 41 MiB.
func makeFilm(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	picture, err := jpeg.Decode(src)
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420jpeg\n", filmWidth, filmHeight)
	for i := range filmFrames {
		if err := writeFrame(w, picture, i); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// writeFrame writes what is seen of the picture at one moment.
func writeFrame(w *bufio.Writer, picture image.Image, i int) error {
	p, ok := picture.(*image.YCbCr)
	if !ok || p.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		return fmt.Errorf("%s is a %T: want a JPEG in 4:2:0", filmSource, picture)
	}
	wide, high := p.Rect.Dx()-filmWidth, p.Rect.Dy()-filmHeight
	if wide < 0 || high < 0 {
		return fmt.Errorf("%s is smaller than the film", filmSource)
	}
	// Even places: a sample of colour is for two by two of light.
	x, y := wide*i/filmFrames/2*2, high*i/filmFrames/2*2
	if _, err := w.WriteString("FRAME\n"); err != nil {
		return err
	}
	if err := writePlane(w, p.Y, p.YStride, x, y, filmWidth, filmHeight); err != nil {
		return err
	}
	for _, plane := range [][]byte{p.Cb, p.Cr} {
		if err := writePlane(w, plane, p.CStride, x/2, y/2, filmWidth/2, filmHeight/2); err != nil {
			return err
		}
	}
	return nil
}

func writePlane(w *bufio.Writer, plane []byte, stride, x, y, width, height int) error {
	for row := range height {
		from := (y+row)*stride + x
		if _, err := w.Write(plane[from : from+width]); err != nil {
			return err
		}
	}
	return nil
}
