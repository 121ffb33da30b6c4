package manifest

import (
	"crypto/x509"
	"encoding/pem"
	"math"
	"time"

	"github.com/sidestep-dev/sidestep/sequence"
)

// reference is a decoded Ref and where its parts stand.
type reference struct {
	ref                        sequence.Ref
	at, apiVersion, kind, name value
}

func (r *reference) complete() bool {
	return r.ref.APIVersion != "" && r.ref.Kind != "" && r.ref.Name != ""
}

// part is where to report a problem with a part of the reference.
func (r *reference) part(p part) value {
	switch p {
	case apiVersionPart:
		return r.apiVersion
	case kindPart:
		return r.kind
	case namePart:
		return r.name
	default:
		return r.at
	}
}

// reference reads a KReference. local: it cannot name a namespace.
func (d *document) reference(v value, local bool) reference {
	r := reference{at: v}
	v.object(fields{
		"apiVersion": func(v value) { r.apiVersion, r.ref.APIVersion = v, v.str() },
		"kind":       func(v value) { r.kind, r.ref.Kind = v, v.str() },
		"name": func(v value) {
			r.name, r.ref.Name = v, v.str()
			subdomainName().check(v, r.ref.Name)
		},
		"namespace": func(v value) {
			r.ref.Namespace = v.str()
			labelName().check(v, r.ref.Namespace)
			if local {
				v.problem("is not allowed: a Subscription is in the namespace of its channel")
			}
		},
		"group": func(v value) {
			v.problem("is not available: Knative refuses it unless kreference-group is on; use apiVersion")
		},
		"address": func(v value) { v.problem("is not available: there is one address for each object here") },
	})
	v.require("apiVersion", "kind", "name")
	return r
}

// destination reads a Destination, and the fields of the object around it if
// they are mixed. It is resolved when all objects are known.
func (d *document) destination(v value, mixed fields) *sequence.Destination {
	dest := &sequence.Destination{}
	var ref reference
	uri := v.at("uri")
	all := fields{
		"ref": func(v value) {
			ref = d.reference(v, false)
			dest.Ref = &ref.ref
			if ref.ref.Namespace == "" {
				ref.ref.Namespace = d.meta.namespace
			}
		},
		"uri":      func(v value) { uri, dest.URI = v, v.str() },
		"CACerts":  func(v value) { dest.CACerts = certificates(v) },
		"audience": func(v value) { dest.Audience = v.str() },
	}
	for k, f := range mixed {
		all[k] = f
	}
	v.object(all)
	switch {
	case dest.Ref == nil && dest.URI == "":
		switch {
		case !v.has("uri") && !v.has("ref"):
			v.problem("needs a destination: ref, uri, or both")
		case uri.node != nil && isString(uri.node):
			uri.problem("is empty")
		}
		return dest
	case dest.Ref != nil && !ref.complete():
		return dest
	}
	d.load.checks = append(d.load.checks, func(ix *index) {
		_, why := ix.resolve(dest, d.meta.namespace)
		switch {
		case why == nil:
		case why.part == uriPart:
			uri.problem("%s", why.message)
		default:
			ref.part(why.part).problem("%s", why.message)
		}
	})
	return dest
}

// certificates checks PEM certificates.
func certificates(v value) string {
	s := v.str()
	rest := []byte(s)
	for n := 0; ; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			if n == 0 && s != "" {
				v.problem("want certificates in PEM format")
			}
			return s
		}
		if block.Type != "CERTIFICATE" {
			v.problem("want a CERTIFICATE in PEM format, got a %q", block.Type)
		} else if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			v.problem("is not a certificate: %v", err)
		}
	}
}

// delivery reads a DeliverySpec.
func (d *document) delivery(v value) *sequence.Delivery {
	out := &sequence.Delivery{}
	v.object(fields{
		"deadLetterSink": func(v value) { out.DeadLetterSink = d.destination(v, nil) },
		"retry": func(v value) {
			n := int32(v.integer(0, math.MaxInt32)) //nolint:gosec // within bounds
			out.Retry = &n
		},
		"timeout": func(v value) {
			out.Timeout = duration(v)
			// Knative keeps tenths of a second, and refuses what is then zero.
			if out.Timeout != nil && *out.Timeout < 100*time.Millisecond {
				v.problem("want at least PT0.1S, got %q", v.text())
			}
		},
		"backoffPolicy": func(v value) {
			out.BackoffPolicy = v.oneOf(sequence.BackoffLinear, sequence.BackoffExponential)
		},
		"backoffDelay":  func(v value) { out.BackoffDelay = duration(v) },
		"retryAfterMax": func(v value) { out.RetryAfterMax = duration(v) },
		"format":        func(v value) { out.Format = v.oneOf(sequence.FormatJSON, sequence.FormatBinary) },
	})
	return out
}

// duration reads an ISO 8601 duration, nil after a report.
func duration(v value) *time.Duration {
	s := v.str()
	if !isString(v.node) {
		return nil
	}
	d, err := sequence.ParseDuration(s)
	if err != nil {
		v.problem("%v", err)
		return nil
	}
	return &d
}
