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
		c, err := parseMessage(b)
		if err != nil {
			return
		}
		if err := c.validate(); err != nil {
			t.Errorf("accepted %+v: %v", c, err)
		}
		again, err := parseMessage(appendClaim([]byte{formatVersion}, &c))
		if err != nil || again != c {
			t.Errorf("%+v becomes %+v, %v", c, again, err)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	expires := time.Unix(1_700_000_000, 0).UTC()
	k := newKey("ns/name", expires)
	c := Claim{Store: "main", Owner: "ns", ContentType: "a/b", Size: 7, Expires: expires, Object: k.payload()}
	whole := appendLink(nil, &c, k, expires.Add(time.Hour))
	f.Add(whole)
	f.Add(append(bytes.Clone(whole), 1, 2, 3))
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{linkVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add(appendClaim([]byte{formatVersion}, &c))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, until, err := parseLink(b)
		if err != nil {
			return
		}
		k, ok := parsePayload(c.Object)
		if !ok || k.namespace != c.Owner || c.locates() != nil {
			t.Fatalf("accepted %+v", c)
		}
		again, later, err := parseLink(appendLink(nil, &c, k, until))
		if err != nil || again != c || !later.Equal(until) {
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
