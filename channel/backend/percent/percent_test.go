package percent

import (
	"net/url"
	"testing"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":            "",
		"plain":       "plain",
		"a%20b":       "a b",
		"%e2%82%AC":   "€",
		"100%":        "100%",
		"100%2":       "100%2",
		"%2525":       "%25", // one round
		"%zz%41":      "%zzA",
		"%%41":        "%A",
		"+ is itself": "+ is itself",
	} {
		if got := Decode(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("a b%", "%41%4")
	f.Fuzz(func(t *testing.T, whole, any string) {
		if got := Decode(url.PathEscape(whole)); got != whole {
			t.Errorf("%q comes back as %q", whole, got)
		}
		if got := Decode(any); len(got) > len(any) {
			t.Errorf("%q becomes longer: %q", any, got)
		}
	})
}
