package claimcheck_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

func TestAHeaderComesBackAsItWas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, contentType := range []string{"", "image/png", strings.Repeat("ä", 256)} {
		c, err := f.Store(t.Context(), claimcheck.Payload{Owner: owner, ContentType: contentType, Head: []byte("x"), Length: -1})
		if err != nil {
			t.Fatal(err)
		}
		h, err := f.Header(c)
		if err != nil {
			t.Fatal(err)
		}
		if len(h) > claimcheck.MaxHeader {
			t.Errorf("%d characters", len(h))
		}
		if got, err := f.ParseHeader(h, owner); err != nil || got != c {
			t.Errorf("got %+v, %v, want %+v", got, err, c)
		}
	}
}

func TestTheLargestClaimFitsIntoAHeader(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := strings.Repeat("s", claimcheck.MaxStoreID)
	r := f.room(t, map[string]claimcheck.Store{id: f.store}, id)
	c, err := r.Store(t.Context(), claimcheck.Payload{
		Owner:       strings.Repeat("n", 63) + "/" + strings.Repeat("c", claimcheck.MaxOwner-64),
		ContentType: strings.Repeat("t", claimcheck.MaxContentType), Length: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := r.Header(c)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.ParseHeader(h, c.Owner); err != nil || got != c {
		t.Errorf("%d characters: got %v, want it back", len(h), err)
	}
}

func TestAForgedHeaderIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("x"))
	h, err := f.Header(c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range h {
		b := []byte(h)
		b[i] ^= 1
		if got, err := f.ParseHeader(string(b), owner); !errors.Is(err, claimcheck.ErrSignature) {
			t.Fatalf("character %d changed: got %+v, %v", i, got, err)
		}
	}
	foreign, err := keys(t, "other").Header(c)
	if err != nil {
		t.Fatal(err)
	}
	link, err := f.Link(t.Context(), c, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]string{
		"empty": "", "cut": h[:len(h)-1], "longer": h + "A", "padded": h + "=", "twice": h + h,
		"other key": foreign, "a link's token": strings.TrimPrefix(link, claimcheck.LinkPath),
		"a URL": "https://169.254.169.254/latest/meta-data", "too long": strings.Repeat("A", claimcheck.MaxHeader+1),
		"white space": h[:10] + "\n" + h[10:],
	} {
		if got, err := f.ParseHeader(header, owner); !errors.Is(err, claimcheck.ErrSignature) {
			t.Errorf("%s: got %+v, %v, want ErrSignature", name, got, err)
		}
	}
}

func TestAHeaderOfAnotherChannelIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	h, err := f.Header(f.put(t, []byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"", "team-a", "team-a/pic", "team-a/picss", "team-b/pics", "TEAM-A/pics"} {
		if _, err := f.ParseHeader(h, other); !errors.Is(err, claimcheck.ErrOwner) {
			t.Errorf("in a record of %q: got %v, want ErrOwner", other, err)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.put(t, []byte("x"))
	header := func(k *claimcheck.Keys) string {
		t.Helper()
		h, err := k.Header(c)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	before, added, moved, after := keys(t, "old"), keys(t, "old", "new"), keys(t, "new", "old"), keys(t, "new")
	for name, tt := range map[string]struct {
		signs, reads *claimcheck.Keys
		ok           bool
	}{
		"before, read by added": {before, added, true}, "added, read by before": {added, before, true},
		"added, read by moved": {added, moved, true}, "moved, read by added": {moved, added, true},
		"moved, read by after": {moved, after, true}, "after, read by moved": {after, moved, true},
		"before, read by after": {before, after, false}, "after, read by before": {after, before, false},
	} {
		if _, err := tt.reads.ParseHeader(header(tt.signs), owner); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want it accepted: %v", name, err, tt.ok)
		}
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	t.Parallel()
	if _, err := claimcheck.NewKeys(); err == nil {
		t.Error("no key: no error")
	}
	if _, err := claimcheck.NewKeys(make([]byte, 32), make([]byte, 31)); err == nil {
		t.Error("a short key: no error")
	}
}

func TestClaimsThatNobodyMadeAreNotEncoded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, change := range map[string]func(*claimcheck.Claim){
		"no store":        func(c *claimcheck.Claim) { c.Store = "" },
		"no owner":        func(c *claimcheck.Claim) { c.Owner = "" },
		"negative size":   func(c *claimcheck.Claim) { c.Size = -1 },
		"path":            func(c *claimcheck.Claim) { c.Object = "../../etc/passwd" },
		"mark":            func(c *claimcheck.Claim) { c.Object = strings.Replace(c.Object, "payload/", "renewed/", 1) },
		"traversal":       func(c *claimcheck.Claim) { c.Object = "payload/../" + c.Object },
		"suffix":          func(c *claimcheck.Claim) { c.Object += "/x" },
		"upper case":      func(c *claimcheck.Claim) { c.Object = strings.ToUpper(c.Object) },
		"large type":      func(c *claimcheck.Claim) { c.ContentType = strings.Repeat("a", 10_000) },
		"owner of a path": func(c *claimcheck.Claim) { c.Owner = "a/b/c" },
	} {
		c := f.put(t, []byte("x"))
		change(&c)
		if h, err := f.Header(c); err == nil {
			t.Errorf("%s: got %q, want an error", name, h)
		}
		if _, err := f.Open(t.Context(), c); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	fx := newFixture(f)
	c := fx.put(f, []byte("seed"))
	h, err := fx.Header(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h, owner)
	f.Add(h[:20], owner)
	f.Add(base64.RawURLEncoding.EncodeToString([]byte{1, 4, 'm', 'a', 'i', 'n'}), owner)
	f.Add("", "")
	f.Fuzz(func(t *testing.T, header, channel string) {
		got, err := fx.ParseHeader(header, channel)
		if err != nil {
			return
		}
		// Nobody can sign but we: it is what we have signed, to the last bit.
		again, err := fx.Header(got)
		if err != nil || again != header || got.Owner != channel {
			t.Errorf("accepted %q for %q: %+v, %v", header, channel, got, err)
		}
	})
}
