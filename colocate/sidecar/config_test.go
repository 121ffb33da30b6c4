package sidecar

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyLoopbackCanBeAllowed(t *testing.T) {
	t.Parallel()
	got, err := ParsePorts("9101, 127.0.0.1:9102,[::1]:9103")
	if err != nil || fmt.Sprint(got) != "[{9101 false} {9102 false} {9103 true}]" {
		t.Errorf("%v, %v", got, err)
	}
	if a, b := got[0].Address(), got[2].Address(); a != "127.0.0.1:9101" || b != "[::1]:9103" {
		t.Errorf("%s, %s", a, b)
	}
	for _, s := range []string{"", "0", "65536", "x", "9101,", "10.0.0.1:80", "localhost:80", "127.0.0.2:80", ":80", "[::]:80", "127.0.0.1:0", "-1"} {
		if got, err := ParsePorts(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestWhatCannotBeIsSaid(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		"pod":           func(c *Config) { c.Pod = "" },
		"printable":     func(c *Config) { c.Pod = "a b" },
		"no ports":      func(c *Config) { c.Allow = nil },
		"at most 64":    func(c *Config) { c.Allow = make([]Port, 65) },
		"port 0":        func(c *Config) { c.Allow = []Port{{}} },
		"twice":         func(c *Config) { c.Allow = []Port{{Number: 1}, {Number: 1, IPv6: true}} },
		"negative":      func(c *Config) { c.Memory = -1 },
		"absolute path": func(c *Config) { c.Claims = "claims" },
		"claims folder": func(c *Config) { c.Claims = "/does/not/exist" },
	} {
		c := Config{Pod: "p", Allow: []Port{{Number: 1}}}
		change(&c)
		if s, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
			if s != nil {
				s.Close()
			}
		}
	}
}

func publicPEM(t *testing.T, names ...string) string {
	t.Helper()
	var out strings.Builder
	for _, n := range names {
		public, _ := keyPair(n)
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	return out.String()
}

func TestKeysAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(one, publicPEM(t, "a", "b"))
	write(two, publicPEM(t, "c"))
	var trusted [][]ed25519.PublicKey
	k := &Keys{Files: []string{one, two}, Trust: func(keys []ed25519.PublicKey) error {
		trusted = append(trusted, keys)
		return nil
	}}
	load := func(times, keys int) {
		t.Helper()
		if err := k.Load(); err != nil {
			t.Fatal(err)
		}
		if len(trusted) != times || len(trusted[times-1]) != keys {
			t.Fatalf("trusted %d times, last %d keys; want %d and %d", len(trusted), len(trusted[len(trusted)-1]), times, keys)
		}
	}
	load(1, 3)
	load(1, 3)
	write(two, publicPEM(t, "c", "d"))
	load(2, 4)
	_, private := keyPair("a")
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for want, text := range map[string]string{
		"no PEM":       "hello",
		"PRIVATE KEY":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"asn1":         string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})),
		"more than":    strings.Repeat("x", maxKeyFile+1),
		"at most":      publicPEM(t, strings.Split("abcdefghijklmnopq", "")...),
		"PUBLIC KEYS":  "-----BEGIN PUBLIC KEYS-----\n-----END PUBLIC KEYS-----\n",
		"trusted keys": "",
	} {
		write(two, text)
		if err := k.Load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	os.Remove(two)
	if err := k.Load(); err == nil {
		t.Error("a file that is gone is no error")
	}
	if len(trusted) != 2 {
		t.Errorf("trusted %d times: what cannot be read must change nothing", len(trusted))
	}
}
