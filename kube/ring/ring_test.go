package ring

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sidestep-dev/sidestep/internal/slipkey"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// letters is a ring whose keys are a, b, c …, with A, B, C … as public halves. A key
// that is "bad" cannot be used.
func letters() *Ring {
	made := byte('a' - 1)
	return &Ring{
		Make: func(time.Time) ([]byte, error) { made++; return []byte{made}, nil },
		Public: func(key []byte) ([]byte, error) {
			return bytes.ToUpper(key), nil
		},
		Usable: func(key []byte, _ time.Time) error {
			if string(key) == "bad" {
				return fmt.Errorf("is bad")
			}
			return nil
		},
		Age: 10 * time.Hour, Overlap: time.Hour,
	}
}

func turn(t *testing.T, r *Ring, s *corev1.Secret, at time.Duration) bool {
	t.Helper()
	changed, err := r.Turn(s, start.Add(at))
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// look is what signs, and what is trusted.
func look(t *testing.T, r *Ring, s *corev1.Secret) string {
	t.Helper()
	trusted, err := r.Trusted(s)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s by %s", s.Data[Current], trusted)
}

func TestAKeyIsTrustedBeforeItSignsAndAfterwards(t *testing.T) {
	r, s := letters(), new(corev1.Secret)
	for _, step := range []struct {
		at   time.Duration
		want string // "" for no change
	}{
		{0, "a by A"},
		{1 * time.Minute, ""},
		{10*time.Hour - 1, ""},
		{10 * time.Hour, "a by AB"},
		{11*time.Hour - 1, ""},
		{11 * time.Hour, "b by BA"},
		{12*time.Hour - 1, ""},
		{12 * time.Hour, "b by B"},
		{22*time.Hour - 1, ""},
		{22 * time.Hour, "b by BC"},
	} {
		changed := turn(t, r, s, step.at)
		if changed != (step.want != "") || changed && look(t, r, s) != step.want {
			t.Errorf("at %v: %s, changed %v; want %q", step.at, look(t, r, s), changed, step.want)
		}
	}
}

func TestByHand(t *testing.T) {
	r, s := letters(), new(corev1.Secret)
	turn(t, r, s, 0)
	delete(s.Annotations, Changed)
	if turn(t, r, s, time.Minute); look(t, r, s) != "a by AB" {
		t.Errorf("without the annotation: %s", look(t, r, s))
	}
	// In the middle of a turn nothing is hurried.
	delete(s.Annotations, Changed)
	turn(t, r, s, 2*time.Minute)
	if turn(t, r, s, time.Hour); look(t, r, s) != "a by AB" {
		t.Errorf("too soon: %s", look(t, r, s))
	}
	if turn(t, r, s, time.Hour+2*time.Minute); look(t, r, s) != "b by BA" {
		t.Errorf("got %s", look(t, r, s))
	}
	s.Data = nil
	if turn(t, r, s, time.Hour+3*time.Minute); look(t, r, s) != "c by C" {
		t.Errorf("after it was emptied: %s", look(t, r, s))
	}
	s.Data[Current] = []byte("bad")
	if turn(t, r, s, time.Hour+4*time.Minute); look(t, r, s) != "d by D" {
		t.Errorf("after somebody broke it: %s", look(t, r, s))
	}
	s.Data[Current], s.Data[Next] = []byte("bad"), []byte("n")
	if turn(t, r, s, time.Hour+5*time.Minute); look(t, r, s) != "n by N" {
		t.Errorf("with a next one: %s", look(t, r, s))
	}
}

// TestWhatSignsIsAlwaysTrusted: whatever signed at some moment is trusted an Overlap
// before and after, for those who turn it as often as they should.
func TestWhatSignsIsAlwaysTrusted(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r, s := letters(), new(corev1.Secret)
		type moment struct {
			at      time.Duration
			signs   string
			trusted string
		}
		var moments []moment
		for at := time.Duration(0); at < 100*time.Hour; at += time.Duration(rnd.Int64N(int64(20 * time.Minute))) {
			turn(t, r, s, at)
			trusted, err := r.Trusted(s)
			if err != nil {
				t.Fatal(err)
			}
			moments = append(moments, moment{at, string(s.Data[Current]), string(trusted)})
		}
		for _, m := range moments {
			for _, o := range moments {
				// What was there at the start could not be told of before.
				if m.signs != "a" && (m.at-o.at).Abs() < r.Overlap-20*time.Minute && !strings.Contains(o.trusted, strings.ToUpper(m.signs)) {
					t.Fatalf("seed %d: at %v %s signs, but at %v only %s is trusted", seed, m.at, m.signs, o.at, o.trusted)
				}
			}
		}
		if last := moments[len(moments)-1].signs; last < "f" {
			t.Errorf("seed %d: it ends with key %s", seed, last)
		}
	}
}

func TestAnErrorChangesNothing(t *testing.T) {
	r, s := letters(), new(corev1.Secret)
	turn(t, r, s, 0)
	r.Make = func(time.Time) ([]byte, error) { return nil, fmt.Errorf("no entropy") }
	was := s.DeepCopy()
	if _, err := r.Turn(s, start.Add(11*time.Hour)); err == nil || fmt.Sprint(s) != fmt.Sprint(was) {
		t.Errorf("error %v, and %v", err, s)
	}
}

func TestSlipsAreTrustedByTheirPublicHalvesAlone(t *testing.T) {
	r, s := Slips(), new(corev1.Secret)
	turn(t, r, s, 0)
	turn(t, r, s, r.Age)
	if _, err := slipkey.Parse(s.Data[Current]); err != nil {
		t.Error(err)
	}
	trusted, err := r.Trusted(s)
	if err != nil {
		t.Fatal(err)
	}
	var blocks int
	for b := trusted; ; blocks++ {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			t.Errorf("a block is of type %s", block.Type)
		}
		b = rest
	}
	if blocks != 2 {
		t.Errorf("%d keys are trusted, want 2:\n%s", blocks, trusted)
	}
	s.Data[Current] = []byte("x")
	if !turn(t, r, s, r.Age) || r.Usable(s.Data[Current], start) != nil {
		t.Error("a key that is none stays")
	}
}

// TestAServerIsTrustedThroughoutATurn has a client with each state's bundle talk to a
// server with each next one's certificate.
func TestAServerIsTrustedThroughoutATurn(t *testing.T) {
	const host = "injector.example.svc"
	r, s := Certificates(host), new(corev1.Secret)
	turn(t, r, s, 0)
	var bundles [][]byte
	var keys [][]byte
	for i := range 4 {
		at := r.Age + time.Duration(i)*r.Overlap
		if i > 0 {
			turn(t, r, s, at-r.Overlap)
		}
		bundle, err := r.Trusted(s)
		if err != nil {
			t.Fatal(err)
		}
		bundles, keys = append(bundles, bundle), append(keys, s.Data[Current])
		for _, other := range []int{i - 1, i} {
			if other < 0 {
				continue
			}
			for _, pair := range [][2]int{{i, other}, {other, i}} {
				if err := shake(t, host, bundles[pair[0]], keys[pair[1]], start.Add(at)); err != nil {
					t.Errorf("the bundle of state %d and the certificate of %d: %v", pair[0], pair[1], err)
				}
			}
		}
	}
	if bytes.Equal(keys[0], keys[3]) {
		t.Error("the certificate was not renewed")
	}
	if err := shake(t, host, bundles[3], keys[0], start); err == nil {
		t.Error("the former certificate is still trusted")
	}
	if err := shake(t, "other.svc", bundles[3], keys[3], start); err == nil {
		t.Error("it is trusted for another host")
	}
}

// shake is what a client makes of a server's certificate.
func shake(t *testing.T, host string, bundle, key []byte, now time.Time) error {
	t.Helper()
	c, err := ParseCertificate(key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		t.Fatalf("no certificates: %s", bundle)
	}
	_, err = c.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now})
	return err
}

func TestACertificateThatCannotBeUsedIsReplacedAtOnce(t *testing.T) {
	r, s := Certificates("127.0.0.1"), new(corev1.Secret)
	turn(t, r, s, 0)
	was := s.Data[Current]
	if err := r.Usable(was, start.Add(certificateLife)); err == nil {
		t.Error("it never expires")
	}
	if turn(t, r, s, certificateLife); bytes.Equal(s.Data[Current], was) {
		t.Error("one that has expired is used")
	}
	other := Certificates("other.svc")
	if changed, err := other.Turn(s, start.Add(certificateLife)); !changed || err != nil {
		t.Errorf("one of another host is used: %v", err)
	}
}
