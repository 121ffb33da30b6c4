package main

import "math"

// harbour: an evening in few colours, with two boats.
func harbour(x, y float64) rgb {
	const horizon = 0.6
	sunX, sunY := 0.95, 0.43
	for _, b := range []struct{ x, y, size float64 }{{0.42, 0.74, 0.2}, {1.22, 0.66, 0.11}} {
		if c, ok := boat((x-b.x)/b.size, (y-b.y)/b.size); ok {
			return c
		}
	}
	if y < horizon {
		switch {
		case y > horizon-0.05-0.05*ridge(1.4*x, 1):
			return hex(0x4a3a5e)
		case y > horizon-0.12-0.07*ridge(x, 4):
			return hex(0x7c5073)
		case disc(x, y, sunX, sunY, 0.1):
			return hex(0xfff0c2)
		case disc(x, y, sunX, sunY, 0.15):
			return hex(0xffc98a)
		}
		return bands(hex(0x3d4f7d), hex(0xf6955f), y/horizon, 9)
	}
	depth := (y - horizon) / (1 - horizon)
	wave := math.Sin(90*math.Sqrt(depth)+2*math.Sin(7*x)) * math.Sin(23*x+40*depth)
	if math.Abs(x-sunX) < 0.05+0.12*depth && wave > 0.1 {
		return hex(0xffd9a0)
	}
	if wave > 0.75 {
		depth -= 0.12
	}
	return bands(hex(0xb0646a), hex(0x1f2d4d), depth, 7)
}

// boat has its water line at y = 0, and is about 1 high.
func boat(x, y float64) (rgb, bool) {
	switch {
	case y > -0.12 && y < 0.06 && math.Abs(x) < 0.42-1.1*(y+0.12):
		return hex(0x2b1d24), true
	case y <= -0.12 && y > -1 && math.Abs(x) < 0.012:
		return hex(0x2b1d24), true
	case y < -0.18 && y > -0.95 && x > 0.02 && x < 0.4*(y+0.95)/0.77:
		return hex(0xfaf3e3), true
	case y < -0.18 && y > -0.8 && x < -0.02 && -x < 0.28*(y+0.8)/0.62:
		return hex(0xd9534a), true
	}
	return rgb{}, false
}

// dunes: ridges of sand one behind another, each lit from the left.
func dunes(x, y float64) rgb {
	c := mix(hex(0x6fa8c9), hex(0xf7dfb8), y/0.5)
	if disc(x, y, 0.32, 0.2, 0.055) {
		c = hex(0xfffbe8)
	}
	const layers = 5
	for i := range layers {
		n := float64(i)
		top := func(x float64) float64 { return 0.44 + 0.12*n + 0.055*ridge(0.9*x+0.37*n, 1.7*n+0.6) }
		below := y - top(x)
		if below < 0 {
			break // what is in front is lower still
		}
		slope := (top(x+0.01) - top(x-0.01)) / 0.02
		light := 0.5 + 1.4*slope + 0.05*math.Sin(260*below+18*math.Sin(6*x))
		sand := mix(hex(0x9c5a34), hex(0xf3bf7c), light)
		c = mix(mix(sand, hex(0xf7dfb8), 0.55-0.13*n), hex(0x5e3424), 1.6*below)
	}
	return c
}

// lighthouse: a clear night, and a beam that sweeps over the sea.
func lighthouse(x, y float64) rgb {
	const lampX, lampY, horizon = 0.4, 0.25, 0.78
	if c, ok := tower(x-lampX, y, lampY); ok {
		return c
	}
	if y > 0.8+0.9*math.Abs(x-lampX+0.02)*math.Abs(x-lampX+0.02)+0.012*ridge(9*x, 2) {
		return mix(hex(0x2a2c36), hex(0x101218), (y-0.8)/0.2)
	}
	c := mix(hex(0x070b1f), hex(0x2f4a78), y/horizon)
	if y > horizon {
		c = mix(hex(0x1d3357), hex(0x070d1c), (y-horizon)/(1-horizon))
		c = c.times(1 + 0.35*math.Sin(900*(y-horizon)*(1.3-y)+3*math.Sin(25*x)))
	} else {
		// One star at most in a cell of the sky, somewhere within it.
		const cells = 42
		cx, cy := math.Floor(cells*x), math.Floor(cells*y)
		if bright := speck(cx, cy); bright > 0.72 {
			sx, sy := (cx+0.1+0.8*speck(cy, cx))/cells, (cy+0.1+0.8*speck(cx+77, cy))/cells
			away := math.Hypot(x-sx, y-sy) * 700
			c = c.add(rgb{1, 1, 0.9}.times(max(0, bright-away*away)))
		}
	}
	// The beam widens and fades with the distance from the lamp.
	dx, dy := math.Abs(x-lampX), y-lampY+0.12*(x-lampX)
	if spread := 0.012 + 0.11*dx; math.Abs(dy) < spread {
		c = c.add(hex(0xffe9a8).times(0.75 * (1 - math.Abs(dy)/spread) * math.Exp(-3*dx)))
	}
	return c.add(hex(0xffe2a0).times(0.5 * math.Exp(-30*math.Hypot(x-lampX, y-lampY))))
}

// tower stands at x = 0 with its lamp at height lampY.
func tower(x, y, lampY float64) (rgb, bool) {
	switch {
	case y > lampY+0.05 && y < 0.82 && math.Abs(x) < 0.045+0.05*(y-lampY):
		side := 0.62 - 0.38*x/(0.045+0.05*(y-lampY))
		if int(math.Floor((y-lampY)*10))%2 == 0 {
			return hex(0xf2ede0).times(side), true
		}
		return hex(0xc8412f).times(side), true
	case y > lampY+0.035 && y <= lampY+0.05 && math.Abs(x) < 0.068:
		return hex(0x1b1b22), true
	case math.Abs(y-lampY) <= 0.035 && math.Abs(x) < 0.036:
		return mix(hex(0xfffbe0), hex(0xffc457), math.Hypot(x, y-lampY)/0.05), true
	case y < lampY-0.035 && y > lampY-0.085 && math.Abs(x) < 0.9*(y-lampY+0.085):
		return hex(0x8f2b21), true
	}
	return rgb{}, false
}

// balloons: three of them over green hills.
func balloons(x, y float64) rgb {
	for _, b := range []struct {
		x, y, size float64
		stripes    [2]uint32
	}{
		{0.27, 0.3, 0.17, [2]uint32{0xe4572e, 0xf6e7cb}},
		{0.58, 0.5, 0.1, [2]uint32{0x2e86ab, 0xf5d547}},
		{0.63, 0.16, 0.065, [2]uint32{0x7d4e8c, 0xf3b0c3}},
	} {
		if c, ok := balloon((x-b.x)/b.size, (y-b.y)/b.size, hex(b.stripes[0]), hex(b.stripes[1])); ok {
			return c
		}
	}
	switch {
	case y > 0.92-0.04*ridge(2*x, 3):
		return hex(0x2f5d3a)
	case y > 0.84-0.05*ridge(1.7*x, 5):
		return hex(0x4d8050)
	case y > 0.77-0.06*ridge(1.3*x, 8):
		return hex(0x86a97a)
	case cloud(x, y, 0.12, 0.62) || cloud(x, y, 0.5, 0.34) || cloud(x, y, 0.2, 0.08):
		return hex(0xffffff)
	}
	return bands(hex(0x58a4d6), hex(0xe4f1f4), y/0.85, 10)
}

// balloon has its envelope about the origin, with radius 1.
func balloon(x, y float64, one, other rgb) (rgb, bool) {
	width := math.Sqrt(max(0, 1-y*y))
	if y > 0.35 {
		width = max(0.16, 0.937-0.98*(y-0.35)) // it tapers towards the basket
	}
	switch {
	case y > -1 && y < 1.15 && math.Abs(x) < width:
		angle := math.Asin(x / width)
		c := one
		if int(math.Floor(angle*8/math.Pi+100))%2 == 0 {
			c = other
		}
		return c.times(1 - 0.22*max(0, math.Floor(3*x/width)/2)), true
	case y >= 1.15 && y < 1.4 && math.Abs(math.Abs(x)-0.14) < 0.012:
		return hex(0x4b3524), true
	case y >= 1.4 && y < 1.62 && math.Abs(x) < 0.17:
		return hex(0x7a5230), true
	}
	return rgb{}, false
}

func cloud(x, y, cx, cy float64) bool {
	return y < cy+0.012 && (disc(x, y, cx, cy, 0.035) || disc(x, y, cx+0.05, cy-0.012, 0.045) || disc(x, y, cx+0.1, cy, 0.03))
}
