package sequence_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/sequence"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"PT1S":             time.Second,
		"PT0.2S":           200 * time.Millisecond,
		"PT0,25S":          250 * time.Millisecond,
		"PT0.000000001S":   1,
		"PT0.0000000019S":  1,
		"PT1H2M3S":         time.Hour + 2*time.Minute + 3*time.Second,
		"PT90M":            90 * time.Minute,
		"P1DT12H":          36 * time.Hour,
		"P2W":              14 * day,
		"P1M":              2629746 * time.Second,
		"P1Y":              31556952 * time.Second,
		"P1Y2M3W4DT5H6M7S": 31556952*time.Second + 2*2629746*time.Second + 25*day + 5*time.Hour + 6*time.Minute + 7*time.Second,
		"P0":               0,
		"P0D":              0,
		"PT0S":             0,
		"P1.5D":            36 * time.Hour,
	} {
		got, err := sequence.ParseDuration(s)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	for _, s := range []string{
		"", "P", "PT", "P1DT", "T1S", "1s", "5", "pt1s", "PT1", "PTS", "PT1S1S", "PT1S2M", "P1S", "PT1D",
		"-PT1S", "+PT1S", "PT-1S", "PT1.S", "PT.5S", "PT1.2.3S", "PT1 S", " PT1S", "P300Y", "PT99999999999999999999S",
		"PT1e3S", "PT0x1S", "P1D2W", "1985-04-12T23:20:50.52Z",
	} {
		if got, err := sequence.ParseDuration(s); !errors.Is(err, sequence.ErrDuration) {
			t.Errorf("ParseDuration(%q) = %v, %v; want ErrDuration", s, got, err)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"PT0.5S", "P1Y2M3W4DT5H6M7S", "P0", "-PT1S", "PT1.2.3S"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := sequence.ParseDuration(s)
		if (err != nil) != errors.Is(err, sequence.ErrDuration) || d < 0 {
			t.Errorf("ParseDuration(%q) = %v, %v", s, d, err)
		}
	})
}
