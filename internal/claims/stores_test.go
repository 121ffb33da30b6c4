package claims

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/claimcheck"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// book is a Ledger that a next process reads.
type book struct {
	mu   sync.Mutex
	urls []string
}

func (b *book) Stores() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.urls)
}

func (b *book) SetStores(urls []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.urls = urls
	return nil
}

// vault is Stores on folders, of a process whose ledger is a book.
type vault struct {
	*Stores
	t    *testing.T
	logs *bytes.Buffer
	dir  string
}

func openVault(t *testing.T, b *book, folders, current string) *vault {
	t.Helper()
	keys, err := claimcheck.NewKeys(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{t: t, logs: new(bytes.Buffer), dir: folders}
	v.Stores, err = Open(t.Context(), v.url(current), Config{
		Ledger: b, Keys: keys, Logger: slog.New(slog.NewTextHandler(v.logs, nil)),
		Dial: func() (*nats.Conn, error) { return nil, errors.New("there is none") },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func (v *vault) url(folder string) string { return "file://" + filepath.Join(v.dir, folder) }

func (v *vault) put(rest io.Reader) claimcheck.Claim {
	v.t.Helper()
	c, err := v.room.Store(v.t.Context(), claimcheck.Payload{Owner: "ns/a", Length: -1, Rest: rest})
	if err != nil {
		v.t.Fatal(err)
	}
	return c
}

func (v *vault) read(c claimcheck.Claim) (string, error) {
	r, err := v.room.Open(v.t.Context(), c)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func (v *vault) wantPayload(c claimcheck.Claim, want string) {
	v.t.Helper()
	if got, err := v.read(c); got != want || err != nil {
		v.t.Errorf("read %q, %v; want %q", got, err, want)
	}
}

func (v *vault) wantStores(folders ...string) {
	v.t.Helper()
	var want []string
	for _, f := range folders {
		want = append(want, v.url(f))
	}
	if got := v.Ledger.Stores(); !slices.Equal(got, want) {
		v.t.Errorf("payloads may be in %v, want %v", got, want)
	}
	if len(v.open) != len(want) {
		v.t.Errorf("%d stores are open, want %d", len(v.open), len(want))
	}
}

func (v *vault) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func TestFormerStoreIsReadUntilNothingIsInItAndThenForgotten(t *testing.T) {
	t.Parallel()
	b, folders := new(book), t.TempDir()
	v := openVault(t, b, folders, "a")
	old := v.put(strings.NewReader("old"))
	v.must(v.Use(t.Context(), v.url("b")))
	v.wantStores("b", "a")
	newer := v.put(strings.NewReader("new"))
	if newer.Store == old.Store {
		t.Error("a payload went to the former store")
	}
	v.must(v.forget(t.Context()))
	v.wantStores("b", "a")
	v.wantPayload(old, "old")

	// So does the next process, of which the files name but the new one.
	next := openVault(t, b, folders, "b")
	next.wantStores("b", "a")
	next.wantPayload(old, "old")
	next.wantPayload(newer, "new")
	if done, err := next.room.Discard(t.Context(), old); !done || err != nil {
		t.Fatalf("deleted: %v, %v", done, err)
	}
	next.must(next.forget(t.Context()))
	next.wantStores("b")
	next.wantPayload(newer, "new")
	openVault(t, b, folders, "b").wantStores("b")
}

func TestStoreThatIsReturnedToIsNotForgotten(t *testing.T) {
	t.Parallel()
	v := openVault(t, new(book), t.TempDir(), "a")
	for _, folder := range []string{"b", "a", "b", "a"} {
		v.must(v.Use(t.Context(), v.url(folder)))
	}
	v.must(v.forget(t.Context()))
	v.wantStores("a")
	v.wantPayload(v.put(strings.NewReader("text")), "text")
}

// A slow upload is on its way to the former store when that is found empty.
func TestUploadThatIsOnItsWayKeepsTheFormerStore(t *testing.T) {
	t.Parallel()
	b, folders := new(book), t.TempDir()
	v := openVault(t, b, folders, "a")
	r, w := io.Pipe()
	came := make(chan struct{})
	go func() {
		_, _ = io.WriteString(w, "first half, ")
		close(came)
		v.must(v.Use(context.Background(), v.url("b")))
		v.must(v.forget(context.Background()))
		_, _ = io.WriteString(w, "second half")
		w.Close()
	}()
	c := v.put(r)
	<-came
	v.wantStores("b", "a")
	v.wantPayload(c, "first half, second half")
	openVault(t, b, folders, "b").wantPayload(c, "first half, second half")
}

// Its volume is not there when the process starts: what is in it is out of reach,
// and not lost; an empty folder in its place would say otherwise.
func TestFormerStoreThatIsAwayIsOpenedWhenItIsBack(t *testing.T) {
	t.Parallel()
	b, folders := new(book), t.TempDir()
	v := openVault(t, b, folders, "a")
	c := v.put(strings.NewReader("text"))
	v.must(v.Use(t.Context(), v.url("b")))
	a := filepath.Join(folders, "a")
	v.must(os.Rename(a, a+".away"))

	next := openVault(t, b, folders, "b")
	if _, err := next.read(c); !errors.Is(err, claimcheck.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if !strings.Contains(next.logs.String(), "cannot be opened") {
		t.Error("nothing was logged")
	}
	next.must(next.reopen(t.Context()))
	next.must(next.forget(t.Context()))
	if !slices.Contains(next.Ledger.Stores(), next.url("a")) {
		t.Error("a store that is away was forgotten")
	}
	next.must(os.Rename(a+".away", a))
	next.must(next.reopen(t.Context()))
	next.wantStores("b", "a")
	next.wantPayload(c, "text")
}

// Another process may have yet to learn that a store is a former one.
func TestAStoreThatOthersMayWriteToIsNotForgotten(t *testing.T) {
	t.Parallel()
	v := openVault(t, new(book), t.TempDir(), "a")
	unused, asked := false, ""
	v.Unused = func(_ context.Context, id string) (bool, error) {
		asked = id
		return unused, nil
	}
	former := v.Current()
	v.must(v.Use(t.Context(), v.url("b")))
	v.must(v.forget(t.Context()))
	v.wantStores("b", "a")
	if asked != former {
		t.Errorf("asked after %q, want %q", asked, former)
	}
	unused = true
	v.must(v.forget(t.Context()))
	v.wantStores("b")
}
