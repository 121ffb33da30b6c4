package archtest

import "slices"

// module is the path that all of ours begin with.
const module = "github.com/sidestep-dev/sidestep"

// rule is one line that imports must not cross. Patterns are import paths, with
// "/..." at the end for all beneath as well; ours are without the module.
type rule struct {
	// name is the rule, as its test is called; instead says what to do.
	name, instead string
	// of are the packages that the rule is about, but for those in except.
	of, except []string
	// deep: what their imports import counts, too.
	deep bool
	// never may be imported; or else only, beside a package's own kind, may.
	never, only []string
	// later: there may be no such packages yet.
	later bool
}

// std stands for the standard library in rule.only.
const std = "std"

var (
	kubernetes = []string{"k8s.io/...", "sigs.k8s.io/...", "knative.dev/..."}
	backends   = []string{
		"channel/backend/faultbackend/...", "channel/backend/kafkabackend/...", "channel/backend/membackend/...",
		"channel/backend/natsbackend/...", "channel/backend/swapbackend/...", "channel/backend/backendtest/...",
	}
	dataPlane = []string{"channel/...", "sequence/...", "claimcheck/...", "colocate/...", "internal/..."}
)

var rules = []rule{
	{
		name:    "the data plane has no Kubernetes in its import graph",
		instead: "translate in kube/: API objects become a channel.Table there",
		of:      dataPlane, deep: true, never: kubernetes,
	},
	{
		name:    "only kube and cmd import Kubernetes",
		instead: "move what needs it to kube/",
		of:      []string{"..."}, except: []string{"kube/...", "cmd/..."}, never: kubernetes,
	},
	{
		name:    "kube and cmd are imported by cmd alone",
		instead: "move what is needed down: to channel, sequence or internal/",
		of:      []string{"..."}, except: []string{"kube/...", "cmd/..."}, never: []string{"kube/...", "cmd/..."},
	},
	{
		name:    "kube does not import cmd",
		instead: "cmd wires only: move what is needed down",
		of:      []string{"kube/..."}, never: []string{"cmd/..."},
	},
	{
		name:    "one command does not import another",
		instead: "cmd wires only: move what both need to internal/",
		of:      []string{"cmd/..."}, never: []string{"cmd/..."},
	},
	{
		name:    "the seam imports the standard library only",
		instead: "keep channel/backend to types that need nothing; move logic to the engine or to a backend",
		of:      []string{"channel/backend"}, deep: true, only: []string{std},
	},
	{
		name:    "a backend knows the seam and nothing else of ours",
		instead: "hand what it needs to it in its Config or in a backend.Record",
		of:      []string{"channel/backend/..."}, deep: true, never: []string{
			"channel", "channel/event/...", "channel/egress/...", "channel/ingress/...",
			"sequence/...", "claimcheck/...", "colocate/...", "internal/...",
		},
	},
	{
		name:    "percent-encoding needs nothing of ours",
		instead: "keep channel/backend/percent to RFC 3986",
		of:      []string{"channel/backend/percent"}, deep: true, only: []string{std},
	},
	{
		name:    "the engine knows neither a backend nor who calls it",
		instead: "declare the interface in channel, and let internal/standalone or cmd put in what fits",
		of:      []string{"channel"}, deep: true, never: slices.Concat(backends, []string{
			"channel/ingress/...", "kube/...", "sequence/...", "internal/standalone/...", "internal/telemetry/...",
			"colocate/...",
		}),
	},
	{
		name:    "the choice of a replica needs nothing of ours",
		instead: "keep colocate/balance to numbers: hand in what it needs",
		of:      []string{"colocate/balance"}, deep: true, only: []string{std},
	},
	{
		name:    "who places chains in pods does not know the sidecar, nor where its map came from",
		instead: "what both sides must agree on is colocate/wire; the rest goes into colocate.Map",
		of:      []string{"colocate"}, deep: true, never: []string{
			"colocate/sidecar/...", "sequence/...", "kube/...", "internal/standalone/...", "internal/telemetry/...",
		},
	},
	{
		name:    "event and egress do not know the engine",
		instead: "move the type down to channel/event or channel/egress, not the logic up",
		of:      []string{"channel/event", "channel/egress"}, deep: true,
		never: []string{"channel", "channel/ingress/...", "sequence/...", "internal/standalone/...", "internal/telemetry/..."},
	},
	{
		name:    "the data plane's way of an event does not know where its table came from",
		instead: "put it into channel.Table",
		of:      []string{"channel/..."}, deep: true, never: []string{"sequence/...", "kube/...", "internal/standalone/..."},
	},
	{
		name:    "sequence is pure",
		instead: "read files, and decode YAML, in sequence/manifest",
		of:      []string{"sequence"}, only: []string{
			"cmp", "crypto/md5", "encoding/hex", "errors", "fmt", "iter", "maps", "math", "math/big",
			"slices", "sort", "strconv", "strings", "time", "unicode", "unicode/utf8",
		},
	},
	{
		name:    "sequence and its manifests do not know how events travel",
		instead: "they make a channel.Table; the rest is for internal/standalone",
		of:      []string{"sequence/..."}, deep: true, never: slices.Concat(backends, []string{
			"channel/ingress/...", "internal/standalone/...", "internal/telemetry/...",
		}),
	},
	{
		name:    "what controller and dispatchers say to each other is theirs alone",
		instead: "keep internal/rollcall to types that need nothing",
		of:      []string{"internal/rollcall"}, deep: true, only: []string{std},
	},
	{
		name:    "the store knows nothing of channels",
		instead: "it keeps what a backend puts into it: that is channel/backend/natsbackend's to know",
		of:      []string{"internal/store"}, deep: true, never: []string{
			"channel/...", "sequence/...", "claimcheck/...", "colocate/...", "kube/...",
		},
	},
	{
		name:    "payload stores do not know where the configuration comes from",
		instead: "hand in URLs, and a Ledger that keeps them",
		of:      []string{"internal/claims"}, deep: true, never: slices.Concat(backends, []string{
			"channel/...", "sequence/...", "kube/...", "internal/standalone/...", "internal/replica/...",
		}),
	},
	{
		name:    "a replica does not know where its table comes from",
		instead: "apply it from outside: kube/watch and internal/standalone do",
		of:      []string{"internal/replica"}, deep: true, never: slices.Concat(backends, []string{
			"sequence/...", "kube/...", "internal/standalone/...",
		}),
	},
	{
		name:    "the controller and the dispatcher share objects and their translation, and no more",
		instead: "move what both need to kube/watch or kube/broker",
		of:      []string{"kube/reconcile"}, never: []string{"kube/serve/...", "internal/replica/..."},
	},
	{
		name:    "the protocol between dispatcher and sidecar needs neither",
		instead: "keep colocate/wire to what both must agree on",
		of:      []string{"colocate/wire"}, deep: true, never: []string{
			"channel", "channel/ingress/...", "claimcheck/...", "sequence/...", "internal/...", "colocate",
			"colocate/sidecar/...", "colocate/balance/...", "kube/...",
		},
	},
	{
		name:    "the sidecar is small",
		instead: "let the dispatcher decide, and say it in a slip",
		of:      []string{"colocate/sidecar", "cmd/sidecar"}, deep: true, never: []string{
			"channel", "channel/ingress/...", "claimcheck/...", "sequence/...", "colocate/balance/...", "kube/...",
			"internal/standalone/...", "internal/telemetry/...",
			"github.com/nats-io/...", "github.com/segmentio/...", "github.com/twmb/...", "github.com/prometheus/...",
			"github.com/aws/...", "gocloud.dev/...", "go.opentelemetry.io/...", "google.golang.org/...",
			"github.com/cloudevents/...", "k8s.io/...", "sigs.k8s.io/...", "knative.dev/...",
		},
	},
	{
		name:    "budget needs nothing of ours",
		instead: "keep internal/budget a leaf: hand in what it needs",
		of:      []string{"internal/budget"}, deep: true, only: []string{std},
	},
	{
		name:    "only tests and developers' tools run a Kafka broker, or need a port before they listen",
		instead: "connect to a broker that runs, with kafkabackend; listen on port 0",
		of:      []string{"..."}, except: []string{"hack/...", "internal/brokertest/...", "internal/kafkabroker", "claimcheck/storetest/..."},
		never: []string{"internal/kafkabroker/...", "internal/freeport"},
	},
	{
		name:    "Kafka's client library stays in the Kafka backend",
		instead: "say it in terms of channel/backend",
		of:      []string{"..."}, except: []string{"channel/backend/kafkabackend/..."}, never: []string{"github.com/segmentio/kafka-go/..."},
	},
	{
		name:    "freeport needs nothing of ours",
		instead: "keep internal/freeport a leaf",
		of:      []string{"internal/freeport"}, deep: true, only: []string{std},
	},
	{
		name:    "kafkabroker needs nothing of ours but a port",
		instead: "keep internal/kafkabroker to starting and ending a process",
		of:      []string{"internal/kafkabroker"}, deep: true, only: []string{std, "internal/freeport"},
	},
	{
		name:    "only commands run a standalone process",
		instead: "move what is needed out of internal/standalone, down",
		of:      []string{"..."}, except: []string{"cmd/..."}, never: []string{"internal/standalone/..."},
	},
	{
		name:    "what only tests need stays in tests",
		instead: "import it from a _test.go file",
		of:      []string{"..."}, except: []string{
			"channel/backend/backendtest/...", "channel/backend/faultbackend/...", "internal/brokertest/...",
			"claimcheck/storetest/...",
		},
		never: []string{
			"channel/backend/backendtest/...", "channel/backend/faultbackend/...", "internal/brokertest/...",
			"claimcheck/storetest/...",
			"testing", "net/http/httptest", "go.uber.org/goleak",
		},
	},
}
