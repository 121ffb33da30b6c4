package main

import (
	"image"
	"image/color"
	"math"
)

// scene is the colour at a place: y runs from 0 at the top to 1 at the bottom,
// and x from 0 at the left by the same measure.
type scene func(x, y float64) rgb

// rgb is a colour, each part from 0 to 1.
type rgb struct{ r, g, b float64 }

func hex(v uint32) rgb {
	return rgb{float64(v>>16&0xff) / 255, float64(v>>8&0xff) / 255, float64(v&0xff) / 255}
}

func (c rgb) add(d rgb) rgb { return rgb{c.r + d.r, c.g + d.g, c.b + d.b} }

func (c rgb) times(f float64) rgb { return rgb{c.r * f, c.g * f, c.b * f} }

// mix is a where t is 0, and b where it is 1.
func mix(a, b rgb, t float64) rgb {
	t = min(max(t, 0), 1)
	return a.times(1 - t).add(b.times(t))
}

// bands is mix in steps, as a screen printer would do it.
func bands(a, b rgb, t float64, steps int) rgb {
	n := float64(steps)
	return mix(a, b, math.Floor(min(max(t, 0), 1)*n)/(n-1))
}

// render samples each pixel in four places: edges come out smooth.
func render(w, h int, at scene) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for py := range h {
		for px := range w {
			var sum rgb
			for i := range 4 {
				x := float64(px) + 0.25 + 0.5*float64(i%2)
				y := float64(py) + 0.25 + 0.5*float64(i/2)
				sum = sum.add(at(x/float64(h), y/float64(h)))
			}
			c := sum.times(0.25)
			img.SetRGBA(px, py, color.RGBA{level(c.r), level(c.g), level(c.b), 255})
		}
	}
	return img
}

func level(v float64) uint8 { return uint8(math.Round(255 * min(max(v, 0), 1))) }

// disc tells whether (x, y) is less than r from (cx, cy).
func disc(x, y, cx, cy, r float64) bool { return math.Hypot(x-cx, y-cy) < r }

// ridge is the height of rolling land at x; seed makes them differ.
func ridge(x, seed float64) float64 {
	return 0.5*math.Sin(3.1*x+seed) + 0.3*math.Sin(7.3*x+2.1*seed) + 0.2*math.Sin(13.7*x+3.7*seed)
}

// speck is a number from 0 to 1 that looks random, the same for all places in a
// cell of a grid.
func speck(x, y float64) float64 {
	v := uint32(int32(math.Floor(x)))*374761393 + uint32(int32(math.Floor(y)))*668265263
	v = (v ^ v>>13) * 1274126177
	return float64(v^v>>16) / (1 << 32)
}
