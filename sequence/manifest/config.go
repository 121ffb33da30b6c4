package manifest

import (
	"errors"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sidestep-dev/sidestep/channel"
	"github.com/sidestep-dev/sidestep/colocate/balance"
)

// The backends of this version.
const (
	BackendEmbedded = "embedded"
	BackendNATS     = "nats"
	BackendKafka    = "kafka"
)

// The ConfigMaps that are read: Sidestep's own, and Knative's.
const (
	configName        = "config-sidestep"
	observabilityName = "config-observability"
)

// Config is what the ConfigMaps config-sidestep and config-observability say.
type Config struct {
	// Backend is BackendEmbedded, the default, BackendNATS or BackendKafka.
	Backend string
	// Namespaces have a backend of their own.
	Namespaces map[string]string
	NATS       NATS
	Kafka      Kafka
	ClaimCheck ClaimCheck
	Dispatch   Dispatch
	Tracing    Tracing
}

// Tracing is what config-observability says of traces: see internal/tracing.
type Tracing struct {
	Protocol, Endpoint string
	SamplingRate       float64
}

// Dispatch is the data key dispatch.
type Dispatch struct {
	// MaxInFlight is how many records of one subscription may be under way;
	// 0: the engine's default.
	MaxInFlight int
	// ByteBudget bounds the bytes of events in memory; 0: the engine's
	// default.
	ByteBudget int64
	// ShortCircuit is for channels that do not say.
	ShortCircuit channel.ShortCircuit
	// CheckpointAfter bounds the work at risk. 0: the engine's default;
	// negative (0s in the file): every hop is stored.
	CheckpointAfter time.Duration
	// Routing chooses among the pods that hold the same steps.
	Routing balance.Policy
	// DrainOnDelete is how long what was removed may take to finish.
	DrainOnDelete time.Duration
}

// NeedRestart names what differs from an earlier Config that a running process does not
// apply. Where brokers and stores are is applied; how they are used is when they are opened.
func (c *Config) NeedRestart(was *Config) (keys []string) {
	note := func(key string, same bool) {
		if !same {
			keys = append(keys, key)
		}
	}
	a, b := was.NATS, c.NATS
	a.URL, b.URL = "", ""
	note("nats", reflect.DeepEqual(a, b))
	k, l := was.Kafka, c.Kafka
	k.Brokers, l.Brokers, k.TopicTemplate, l.TopicTemplate = nil, nil, "", ""
	note("kafka", reflect.DeepEqual(k, l))
	note("claim-check.ttl", was.ClaimCheck.TTL == c.ClaimCheck.TTL)
	note("claim-check.maxStructuredBytes", was.ClaimCheck.MaxStructuredBytes == c.ClaimCheck.MaxStructuredBytes)
	note("dispatch.maxInFlight", was.Dispatch.MaxInFlight == c.Dispatch.MaxInFlight)
	note(observabilityName, was.Tracing == c.Tracing)
	return keys
}

// Tuning is what of c a running Dispatcher applies.
func (c *Config) Tuning() channel.Tuning {
	return channel.Tuning{
		ByteBudget: c.Dispatch.ByteBudget, CheckpointAfter: c.Dispatch.CheckpointAfter,
		Threshold: int(c.ClaimCheck.Threshold), MaxEventBytes: c.ClaimCheck.MaxEventBytes, LinkTTL: c.ClaimCheck.LinkTTL,
	}
}

func defaultConfig() Config {
	return Config{
		Backend: BackendEmbedded, ClaimCheck: defaultClaimCheck(), Dispatch: Dispatch{DrainOnDelete: 30 * time.Second},
	}
}

// decodeConfigMap reads one of the ConfigMaps that say anything here.
func (d *document) decodeConfigMap(root value) {
	d.decodeMeta(root, subdomainName())
	decode := d.decodeConfig
	switch d.meta.name {
	case configName, "":
	case observabilityName:
		decode = d.decodeObservability
	default:
		d.meta.nameAt.problem("the ConfigMaps that are read are %s and %s, got %q", configName, observabilityName, d.meta.name)
	}
	// There is one of each, whatever its namespace.
	first, twice := d.load.configs[d.meta.name]
	if twice {
		d.meta.nameAt.problem("there is another %s at %s:%d", d.meta.name, first.doc.file, first.line)
		return
	}
	d.load.configs[d.meta.name] = d.meta.nameAt
	decode(root)
}

func (d *document) decodeConfig(root value) {
	c := &d.load.set.Config
	chosen := make(map[string]value)
	root.object(d.fields(fields{
		"immutable": ignored,
		"data": func(v value) {
			v.object(fields{
				"backend":     func(v value) { c.Backend = backend(v); chosen[c.Backend] = v },
				"nats":        func(v value) { v.embedded(func(v value) { c.NATS = nats(v) }) },
				"kafka":       func(v value) { v.embedded(func(v value) { c.Kafka = kafka(v) }) },
				"claim-check": func(v value) { v.embedded(func(v value) { claimCheck(v, &c.ClaimCheck) }) },
				"dispatch":    func(v value) { v.embedded(func(v value) { dispatch(v, &c.Dispatch) }) },
				"namespaces":  func(v value) { v.embedded(func(v value) { c.Namespaces = namespaces(v, chosen) }) },
			})
		},
	}))
	if !d.broken {
		c.backends(chosen)
	}
}

// backend is the one chosen, or the default after a report.
func backend(v value) string {
	switch s := v.str(); s {
	case BackendEmbedded, BackendNATS, BackendKafka:
		return s
	default:
		if isString(v.node) {
			v.problem("want embedded, nats or kafka, got %q", v.text())
		}
	}
	return BackendEmbedded
}

func namespaces(v value, chosen map[string]value) map[string]string {
	all := make(map[string]string)
	v.eachField(func(key string, ns value) {
		labelName().check(ns, key)
		ns.object(fields{"backend": func(v value) {
			all[key] = backend(v)
			if _, known := chosen[all[key]]; !known {
				chosen[all[key]] = v
			}
		}})
	})
	return all
}

func dispatch(v value, d *Dispatch) {
	v.object(fields{
		"maxInFlight": func(v value) { d.MaxInFlight = int(v.integer(1, 65536)) },
		"byteBudget":  func(v value) { d.ByteBudget = byteCount(v, 1<<20) },
		"routing":     func(v value) { d.Routing = routing(v) },
		"shortCircuit": func(v value) {
			d.ShortCircuit = shortCircuits()[v.oneOf("Colocated", "Always", "Never")]
		},
		"checkpointAfter": func(v value) {
			if d.CheckpointAfter = goDuration(v, 0); d.CheckpointAfter == 0 {
				d.CheckpointAfter = -1
			}
		},
		"drainOnDelete": func(v value) { d.DrainOnDelete = goDuration(v, 0) },
	})
}

func routing(v value) balance.Policy {
	// oneOf has reported what is none; the default stands for it.
	p, _ := balance.ParsePolicy(v.oneOf("least-request", "round-robin", "weighted", "maglev")) //nolint:errcheck // see above
	return p
}

// secret reads the name of a Secret in the namespace of the installation; files is what
// to use where there are none.
func secret(to *string, files string) func(value) {
	return func(v value) {
		if !v.doc.load.secrets {
			v.problem("a Secret cannot be read here; use %s", files)
			return
		}
		if *to = v.str(); isString(v.node) {
			subdomainName().check(v, *to)
		}
	}
}

func unavailable(why string) func(value) {
	return func(v value) { v.problem("%s", why) }
}

// embedded reads YAML within a string. Lines are those of the file where the
// string is a block of lines, and otherwise the string's own.
func (v value) embedded(decode func(value)) {
	text := v.str()
	if !isString(v.node) {
		return
	}
	inner := v
	inner.offset = v.line - 1
	if v.node.Style&yaml.LiteralStyle != 0 {
		inner.offset = v.line // the text begins on the line after the '|'
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var node, more yaml.Node
	err := decoder.Decode(&node)
	if errors.Is(err, io.EOF) {
		return
	}
	if err == nil {
		err = decoder.Decode(&more)
		if err == nil {
			v.problem("want one YAML document, got several")
			return
		}
	}
	if !errors.Is(err, io.EOF) {
		p := syntaxProblem(v.doc.file, err)
		inner.line = v.line
		if p.Line > 0 {
			inner.line = p.Line + inner.offset
		}
		inner.problem("%s", p.Message)
		return
	}
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		decode(inner.of(node.Content[0]))
	}
}

// goDuration reads a duration such as 500ms, 30s or 2m.
func goDuration(v value, least time.Duration) time.Duration {
	if v.node.Kind == yaml.ScalarNode && v.node.Value == "0" {
		return max(least, 0)
	}
	s := v.str()
	if !isString(v.node) {
		return least
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < least {
		v.problem("want a duration such as 500ms, 30s or 2m, at least %v, got %q", least, v.text())
		return least
	}
	return d
}

// byteCount reads a number of bytes, such as 268435456 or 256Mi.
func byteCount(v value, least int64) int64 {
	if v.node.Kind != yaml.ScalarNode {
		v.problem("want a number of bytes such as 256Mi, got %s", v.kind())
		return least
	}
	digits, unit := v.node.Value, int64(1)
	for i, suffix := range []string{"Ki", "Mi", "Gi", "Ti"} {
		if rest, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = rest, 1<<(10*(i+1))
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/unit || n*unit < least {
		v.problem("want a number of bytes such as 256Mi, at least %d, got %q", least, v.text())
		return least
	}
	return n * unit
}

func shortCircuits() map[string]channel.ShortCircuit {
	return map[string]channel.ShortCircuit{
		"Colocated": channel.Colocated,
		"Always":    channel.Always,
		"Never":     channel.Never,
	}
}
