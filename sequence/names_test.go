package sequence_test

import (
	"strings"
	"testing"

	"github.com/sidestep-dev/sidestep/sequence"
)

func TestChildName(t *testing.T) {
	tests := []struct{ name, parent, suffix, want string }{
		{"what fits is joined", "pics-kn-sequence-0", "-kn-channel", "pics-kn-sequence-0-kn-channel"},
		{"63 bytes fit", strings.Repeat("a", 52), "-kn-channel", strings.Repeat("a", 52) + "-kn-channel"},
		{"a long suffix is cut behind the hash", "x", strings.Repeat("s", 70), "xef0ff122f5f5f89bb7889c0495cc177d" + strings.Repeat("s", 30)},
		{"64 bytes are hashed", strings.Repeat("a", 53), "-kn-channel", strings.Repeat("a", 20) + "e9e7e260dce84ffa6e0e7eb5fd9d37fc-kn-channel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sequence.ChildName(tt.parent, tt.suffix); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestChildNameIsNeverTooLongAndNeverShared(t *testing.T) {
	seen := make(map[string]string)
	for parent := range 80 {
		for suffix := range 80 {
			p, s := "x"+strings.Repeat("p", parent), strings.Repeat("-", suffix)
			got := sequence.ChildName(p, s)
			if len(got) > 63 {
				t.Fatalf("ChildName(%q, %q) = %q, %d bytes", p, s, got, len(got))
			}
			if was, ok := seen[got]; ok {
				t.Fatalf("%q and %q are both called %q", was, p+s, got)
			}
			seen[got] = p + s
		}
	}
}

func TestHostIsTheChannelsServiceInLowerCase(t *testing.T) {
	if got, want := sequence.Host("Team", "pics", ""), "pics-kn-channel.team.svc.cluster.local"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := sequence.Host("t", "pics", "example.org"), "pics-kn-channel.t.svc.example.org"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
