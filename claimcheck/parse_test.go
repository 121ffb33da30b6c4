package claimcheck

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// What is signed is ours; still, what reads it must stand anything.
func FuzzParseMessage(f *testing.F) {
	c := Claim{
		Store: "main", Owner: "ns/name", ContentType: "a/b", Size: 7, Expires: time.Unix(1_700_000_000, 0).UTC(),
		Object: newKey("ns/name", time.Unix(1_700_000_000, 0)).payload(),
	}
	whole := appendClaim([]byte{formatVersion}, &c)
	f.Add(whole)
	f.Add(append(bytes.Clone(whole), 1, 2, 3))
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{formatVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, rest, err := parseMessage(b)
		if err != nil {
			return
		}
		if err := c.validate(); err != nil {
			t.Errorf("accepted %+v: %v", c, err)
		}
		again, tail, err := parseMessage(append(appendClaim([]byte{formatVersion}, &c), rest...))
		if err != nil || again != c || !bytes.Equal(tail, rest) {
			t.Errorf("%+v becomes %+v, %v", c, again, err)
		}
	})
}

func FuzzNames(f *testing.F) {
	k := newKey("ns/name", time.Unix(1_700_000_000, 0))
	f.Add(k.payload())
	f.Add(k.mark(links, time.Unix(1_800_000_000, 1)))
	f.Add(k.mark(renewals, time.Unix(0, 0)))
	f.Add("payload/../x")
	f.Add("..")
	f.Fuzz(func(t *testing.T, name string) {
		if ValidName(name) == nil {
			if strings.Contains(name, "..") && strings.Contains("/"+name, "/..") || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.Contains(name, "//") {
				t.Errorf("%q is said to be valid", name)
			}
		}
		if k, ok := parsePayload(name); ok && k.payload() != name {
			t.Errorf("%q is said to be %q", name, k.payload())
		}
		for _, folder := range []string{renewals, links} {
			if k, until, ok := parseMark(folder, name); ok && (k.mark(folder, until) != name || ValidName(name) != nil) {
				t.Errorf("%q is said to be %q", name, k.mark(folder, until))
			}
		}
	})
}

func TestNamesAreValidAndTheirOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, owner := range []string{"a/b", "a/c", "b/b"} {
		for range 100 {
			k := newKey(owner, time.Unix(1_700_000_000, 1))
			if got, ok := parsePayload(k.payload()); !ok || got != k || got.expires.Unix() != 1_700_000_001 {
				t.Fatalf("%q is read as %+v", k.payload(), got)
			}
			for _, name := range []string{k.payload(), k.mark(links, k.expires), k.mark(renewals, k.expires)} {
				if err := ValidName(name); err != nil || seen[name] {
					t.Fatalf("%q: %v, seen before: %v", name, err, seen[name])
				}
				seen[name] = true
			}
		}
	}
}
