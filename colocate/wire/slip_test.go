package wire

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/channel/egress"
)

var epoch = time.Unix(1_700_000_000, 0)

// keyPair is a pair of keys that is always the same for the same name.
func keyPair(name string) (ed25519.PublicKey, ed25519.PrivateKey) {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, name)
	private := ed25519.NewKeyFromSeed(seed)
	public, _ := private.Public().(ed25519.PublicKey)
	return public, private
}

func aSlip() *Slip {
	return &Slip{
		Pod: "pod-1", Namespace: "pics", Entering: true,
		Steps: []Step{
			{UID: "a", Port: 9101, Path: "/"},
			{
				UID: "b", Port: 9102, Path: "/x?y=z", Host: "caption.pics.svc.cluster.local", Namespace: "flows",
				Authorization: "Bearer abc", Timeout: 1500 * time.Millisecond, Reference: true, Format: egress.Structured,
			},
		},
	}
}

func signerAt(now time.Time, name string) *Signer {
	_, private := keyPair(name)
	s := NewSigner(private)
	s.now = func() time.Time { return now }
	return s
}

// verifierAt trusts the keys of the names given.
func verifierAt(t testing.TB, now *time.Time, names ...string) *Verifier[*Slip] {
	t.Helper()
	v := NewVerifier("pod-1", "pics", func(s *Slip) (*Slip, error) { return s, nil })
	v.now = func() time.Time { return *now }
	trust(t, v, names...)
	return v
}

func trust[T any](t testing.TB, v *Verifier[T], names ...string) {
	t.Helper()
	var keys []ed25519.PublicKey
	for _, n := range names {
		public, _ := keyPair(n)
		keys = append(keys, public)
	}
	if err := v.Trust(keys); err != nil {
		t.Fatal(err)
	}
}

func sign(t testing.TB, s *Signer, slip *Slip) string {
	t.Helper()
	h, err := s.Sign(slip)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestASlipArrivesAsItWasSigned(t *testing.T) {
	t.Parallel()
	now := epoch
	got, err := verifierAt(t, &now, "old", "new").Verify(sign(t, signerAt(now, "new"), aSlip()))
	if err != nil {
		t.Fatal(err)
	}
	want := aSlip()
	want.Expires = now.Add(Lifetime)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestASlipThatIsNotGoodIsRefused(t *testing.T) {
	t.Parallel()
	now := epoch
	good := sign(t, signerAt(now, "key"), aSlip())
	with := func(change func(*Slip)) string {
		s := aSlip()
		change(s)
		return sign(t, signerAt(now, "key"), s)
	}
	parts := strings.Split(good, ".")
	other := strings.Split(with(func(s *Slip) { s.Steps[0].Port = 22 }), ".")
	for _, tt := range []struct {
		name, header string
		want         error
	}{
		{"no slip", "", ErrVersion},
		{"words", "let me in", ErrVersion},
		{"a later version", "2" + good[1:], ErrVersion},
		{"no signature", parts[0] + "." + parts[1], ErrSlip},
		{"half a signature", good[:len(good)-10], ErrSlip},
		{"another slip's signature", parts[0] + "." + other[1] + "." + parts[2], ErrForged},
		{"another key", sign(t, signerAt(now, "stranger"), aSlip()), ErrForged},
		{"expired", with(func(s *Slip) { s.Expires = now.Add(-Skew - time.Second) }), ErrExpired},
		{"valid for too long", with(func(s *Slip) { s.Expires = now.Add(time.Hour) }), ErrSlip},
		{"another pod", with(func(s *Slip) { s.Pod = "pod-2" }), ErrOtherPod},
		{"another namespace", with(func(s *Slip) { s.Namespace = "team-b" }), ErrOtherPod},
		{"too long", good + strings.Repeat("A", MaxSlipBytes), ErrSlip},
	} {
		v := verifierAt(t, &now, "key")
		if got, err := v.Verify(tt.header); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
		if len(v.slips) != 0 {
			t.Errorf("%s: it was kept", tt.name)
		}
	}
}

// Every bit of a slip is under its signature.
func TestASlipOfWhichAnyByteWasChangedIsRefused(t *testing.T) {
	t.Parallel()
	now := epoch
	good := []byte(sign(t, signerAt(now, "key"), aSlip()))
	v := verifierAt(t, &now, "key")
	for i := range good {
		for _, c := range []byte{'A', 'B', '_', '.', good[i] ^ 1} {
			if c == good[i] {
				continue
			}
			bad := append([]byte(nil), good...)
			bad[i] = c
			if _, err := v.Verify(string(bad)); err == nil {
				t.Fatalf("byte %d changed from %q to %q, and it is good", i, good[i], c)
			}
		}
	}
}

func TestWhatCannotBeInASlipIsNotSigned(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Slip){
		"no pod":              func(s *Slip) { s.Pod = "" },
		"a namespace of two":  func(s *Slip) { s.Namespace = "a b" },
		"no steps":            func(s *Slip) { s.Steps = nil },
		"a step twice":        func(s *Slip) { s.Steps[1].UID = "a" },
		"no UID":              func(s *Slip) { s.Steps[0].UID = "" },
		"no port":             func(s *Slip) { s.Steps[0].Port = 0 },
		"no path":             func(s *Slip) { s.Steps[0].Path = "" },
		"a relative path":     func(s *Slip) { s.Steps[0].Path = "@evil:80/" },
		"a path of two lines": func(s *Slip) { s.Steps[0].Path = "/ HTTP/1.1\r\nx: y" },
		"a fragment":          func(s *Slip) { s.Steps[0].Path = "/#a" },
		"a host of two lines": func(s *Slip) { s.Steps[0].Host = "a\nb" },
		"a token of two":      func(s *Slip) { s.Steps[0].Authorization = "a\r\nb: c" },
		"a negative timeout":  func(s *Slip) { s.Steps[0].Timeout = -1 },
		"a timeout of weeks":  func(s *Slip) { s.Steps[0].Timeout = MaxTimeout + 1 },
		"another format":      func(s *Slip) { s.Steps[0].Format = 7 },
		"too many steps": func(s *Slip) {
			for i := range MaxSteps {
				s.Steps = append(s.Steps, Step{UID: fmt.Sprint("n", i), Port: 1, Path: "/"})
			}
		},
		"too many bytes": func(s *Slip) {
			s.Steps[0].Authorization = strings.Repeat("x", maxAuthorization)
			s.Steps[1].Authorization = strings.Repeat("x", maxAuthorization)
		},
	} {
		s := aSlip()
		change(s)
		if h, err := signerAt(epoch, "key").Sign(s); !errors.Is(err, ErrSlip) {
			t.Errorf("%s: %.20q, %v", name, h, err)
		}
	}
}

func TestTheLongestChainFitsIntoAHeader(t *testing.T) {
	t.Parallel()
	now := epoch
	s := &Slip{Pod: strings.Repeat("p", 36), Namespace: "pics"}
	for i := range MaxSteps {
		s.Steps = append(s.Steps, Step{
			UID: fmt.Sprintf("%036d", i), Port: 65535, Path: "/" + strings.Repeat("x", 62), Namespace: "pics",
			Host: strings.Repeat("h", 63) + ".pics.svc.cluster.local", Timeout: time.Hour,
		})
	}
	v := NewVerifier(s.Pod, "", func(s *Slip) (*Slip, error) { return s, nil })
	v.now = func() time.Time { return now }
	trust(t, v, "key")
	got, err := v.Verify(sign(t, signerAt(now, "key"), s))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Steps, s.Steps) {
		t.Error("the steps are not those that were signed")
	}
}
