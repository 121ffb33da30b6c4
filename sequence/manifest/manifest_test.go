package manifest_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func aChannel(name string) string {
	return "apiVersion: messaging.sidestep.dev/v1alpha1\nkind: SidestepChannel\nmetadata: {name: " + name + "}\n"
}

func names(t *testing.T, s *manifest.Set) []string {
	t.Helper()
	table, _, err := s.Table(manifest.TableOptions{UID: uid})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range table.Channels {
		out = append(out, c.Name)
	}
	return out
}

func TestAFolderIsReadInTheOrderOfNamesButNotWhatIsBeneath(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "b.yml"), aChannel("b"))
	write(t, filepath.Join(dir, "a.yaml"), aChannel("a"))
	write(t, filepath.Join(dir, "c.json"), `{"apiVersion": "messaging.sidestep.dev/v1alpha1", "kind": "SidestepChannel", "metadata": {"name": "c"}}`)
	write(t, filepath.Join(dir, "notes.txt"), "not yaml: [")
	write(t, filepath.Join(dir, ".hidden.yaml"), "not yaml: [")
	write(t, filepath.Join(dir, "beneath", "d.yaml"), aChannel("d"))
	write(t, filepath.Join(dir, "folder.yaml", "e.yaml"), aChannel("e"))

	set, err := manifest.Load([]string{dir, filepath.Join(dir, "a.yaml"), filepath.Join(dir, "beneath", "..", "b.yml")})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yml"), filepath.Join(dir, "c.json")}
	if !slices.Equal(set.Files, want) {
		t.Errorf("read %v, want %v", set.Files, want)
	}
	if got := names(t, set); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %v", got)
	}
}

func TestAFileIsReadWhateverItsNameIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manifest")
	write(t, path, aChannel("a"))
	if _, err := manifest.Load([]string{path}); err != nil {
		t.Error(err)
	}
}

func TestAFileOfAMountedConfigMapIsRead(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..data", "a.yaml"), aChannel("a"))
	if err := os.Symlink(filepath.Join("..data", "a.yaml"), filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	set, err := manifest.Load([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, set); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %v", got)
	}
}

func TestWhatCannotBeReadIsReportedBesideAllElse(t *testing.T) {
	dir := t.TempDir()
	missing, empty := filepath.Join(dir, "missing"), filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad.yaml")
	write(t, bad, aChannel("Bad"))
	_, err := manifest.Load([]string{missing, empty, bad})
	var problems manifest.Problems
	if !errors.As(err, &problems) || len(problems) != 3 || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{missing + ": cannot be read: no such file", empty + ": has no file", bad + ":3: metadata.name: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

func TestALargeFileIsRefused(t *testing.T) {
	_, err := manifest.Parse("big.yaml", []byte(strings.Repeat("#", 16<<20+1)))
	if err == nil || !strings.Contains(err.Error(), "big.yaml: is larger than 16 MiB") {
		t.Errorf("got %v", err)
	}
}

func TestTheConfigMap(t *testing.T) {
	parse := func(data string) manifest.Config {
		t.Helper()
		set, err := manifest.Parse("c.yaml", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep}\ndata:\n"+data))
		if err != nil {
			t.Fatal(err)
		}
		return set.Config
	}
	claims := manifest.ClaimCheck{
		Threshold: 256 << 10, TTL: 168 * time.Hour, LinkTTL: time.Hour, MaxEventBytes: 5 << 30, MaxStructuredBytes: 8 << 20,
	}
	defaults := manifest.Config{
		Backend: manifest.BackendEmbedded, ClaimCheck: claims, Dispatch: manifest.Dispatch{DrainOnDelete: 30 * time.Second},
	}
	tests := []struct {
		name, data string
		want       manifest.Config
	}{
		{"nothing is the default", "  backend: embedded\n", defaults},
		{"empty blocks are nothing", "  nats: \"\"\n  dispatch: |\n    # nothing\n  kafka: \"\"\n", defaults},
		{"a namespace of its own", `
  kafka: |
    brokers: [a:9092, "b:9092"]
    sasl: {mechanism: SCRAM-SHA-512, userFile: /u, passwordFile: /p}
    tls: {ca: /ca.crt}
    partitions: 4
    replicationFactor: 3
    retention: 72h
    topicTemplate: "x.{id}"
  namespaces: |
    a: {backend: kafka}
`, manifest.Config{
			Backend: manifest.BackendEmbedded, Namespaces: map[string]string{"a": "kafka"}, ClaimCheck: claims,
			Dispatch: manifest.Dispatch{DrainOnDelete: 30 * time.Second},
			Kafka: manifest.Kafka{
				Brokers: []string{"a:9092", "b:9092"}, TLS: true, Files: manifest.NATSTLS{CAFile: "/ca.crt"},
				SASL:       manifest.KafkaSASL{Mechanism: "SCRAM-SHA-512", UserFile: "/u", PasswordFile: "/p"},
				Partitions: 4, ReplicationFactor: 3, Retention: 72 * time.Hour, TopicTemplate: "x.{id}",
			},
		}},
		{"all of it", `
  backend: nats
  nats: |
    url: tls://a:4222, nats://b
    credentialsFile: /etc/nats.creds
    replicas: 3
    storage: memory
    sync: always
  claim-check: |
    store: s3://payloads?endpoint=http://minio:9000
    threshold: 64Ki
    ttl: 24h
    linkTTL: 10m
    maxEventBytes: 1Gi
    maxStructuredBytes: 1Mi
  dispatch: |
    maxInFlight: 32
    byteBudget: 1Gi
    shortCircuit: Never
    checkpointAfter: 250ms
    drainOnDelete: 0
`, manifest.Config{
			Backend: manifest.BackendNATS,
			NATS:    manifest.NATS{URL: "tls://a:4222, nats://b", CredentialsFile: "/etc/nats.creds", Replicas: 3, Memory: true, SyncAlways: true},
			ClaimCheck: manifest.ClaimCheck{
				Store: "s3://payloads?endpoint=http://minio:9000", Threshold: 64 << 10, TTL: 24 * time.Hour, LinkTTL: 10 * time.Minute,
				MaxEventBytes: 1 << 30, MaxStructuredBytes: 1 << 20,
			},
			Dispatch: manifest.Dispatch{MaxInFlight: 32, ByteBudget: 1 << 30, ShortCircuit: channel.Never, CheckpointAfter: 250 * time.Millisecond},
		}},
		{"who we are at a server", `
  backend: nats
  nats: |
    url: tls://a
    user: sidestep
    passwordFile: /etc/password
    tls: {ca: /etc/ca.pem, cert: /etc/cert.pem, key: /etc/key.pem}
`, manifest.Config{
			Backend: manifest.BackendNATS,
			NATS: manifest.NATS{
				URL: "tls://a", User: "sidestep", PasswordFile: "/etc/password",
				TLS: manifest.NATSTLS{CAFile: "/etc/ca.pem", CertFile: "/etc/cert.pem", KeyFile: "/etc/key.pem"},
			},
			ClaimCheck: claims, Dispatch: defaults.Dispatch,
		}},
		{"no work at risk", "  dispatch: \"checkpointAfter: 0s\"\n  nats: 'sync: 5s'\n", manifest.Config{
			Backend: manifest.BackendEmbedded,
			NATS:    manifest.NATS{SyncInterval: 5 * time.Second}, ClaimCheck: claims,
			Dispatch: manifest.Dispatch{CheckpointAfter: -1, DrainOnDelete: 30 * time.Second},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parse(tt.data); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestTableOptionsAreChecked(t *testing.T) {
	set, err := manifest.Parse("a.yaml", []byte(aChannel("a")))
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]manifest.TableOptions{
		"no UID function": {},
		"has a path":      {UID: uid, BaseURL: "http://127.0.0.1:8080/events"},
		"no host":         {UID: uid, BaseURL: "http://"},
		"absolute URL":    {UID: uid, BaseURL: "127.0.0.1"},
	} {
		if _, _, err := set.Table(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	table, addresses, err := set.Table(manifest.TableOptions{UID: uid, BaseURL: "https://events.example:8443/", ClusterDomain: "Example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if got := addresses[0].URL; got != "https://events.example:8443/default/a" || table.Channels[0].URL != got {
		t.Errorf("got %s and %s", got, table.Channels[0].URL)
	}
	if got := table.Channels[0].Hosts; !slices.Equal(got, []string{"a-kn-channel.default.svc.example.org"}) {
		t.Errorf("got %v", got)
	}
}

func TestASubscriptionWithoutUIDMakesNoTable(t *testing.T) {
	set, err := manifest.Parse("a.yaml", []byte("apiVersion: flows.knative.dev/v1\nkind: Sequence\nmetadata: {name: s}\nspec: {steps: [{uri: \"http://a\"}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = set.Table(manifest.TableOptions{UID: func(string, string, string) string { return "" }})
	if err == nil || !strings.Contains(err.Error(), "default/s-kn-sequence-0: has no UID") {
		t.Errorf("got %v", err)
	}
}

func TestAliasesStandForWhatTheyName(t *testing.T) {
	set, err := manifest.Parse("a.yaml", []byte(`
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: s}
spec:
  steps:
    - uri: http://a
      delivery: &twice {retry: 2}
    - uri: http://b
      delivery: *twice
`))
	if err != nil {
		t.Fatal(err)
	}
	table, _, err := set.Table(manifest.TableOptions{UID: uid})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range table.Channels {
		if got := c.Subscriptions[0].Policy.Retry; got != 2 {
			t.Errorf("%s retries %d times, want 2", c.Name, got)
		}
	}
}
