package manifest

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// What annotations of a Service mean something to Sidestep.
const (
	annotationPrefix   = "sidestep.dev/"
	addressAnnotation  = annotationPrefix + "address"
	payloadAnnotation  = annotationPrefix + "payload"
	colocateAnnotation = annotationPrefix + "colocate"
)

// decodeService takes in where a Service is reached from this process.
func (d *document) decodeService(root value) {
	d.decodeMeta(root, labelName())
	var external, kind string
	externalAt := root
	root.object(d.fields(fields{"spec": func(v value) {
		fs := serviceFields()
		fs["type"] = func(v value) { kind = v.oneOf("ClusterIP", "NodePort", "LoadBalancer", "ExternalName") }
		fs["externalName"] = func(v value) { externalAt, external = v, v.str() }
		v.object(fs)
	}}))
	address, reference, apart := "", false, false
	// The port is 80, as it is for Knative, whatever the ports say.
	if kind == "ExternalName" && external != "" {
		address = checkedAddress(externalAt, "http://"+external)
	}
	for _, key := range slices.Sorted(maps.Keys(d.meta.annotationAt)) {
		at := d.meta.annotationAt[key]
		switch {
		case key == addressAnnotation:
			address = checkedAddress(at, d.meta.annotations[key])
		case key == payloadAnnotation:
			switch d.meta.annotations[key] {
			case "reference":
				reference = true
			case "value":
			default:
				at.problem("want value or reference, got %q", d.meta.annotations[key])
			}
		case key == colocateAnnotation:
			apart = !colocated(at, d.meta.annotations[key])
		case strings.HasPrefix(key, annotationPrefix):
			at.problem("unknown annotation; Sidestep knows address, colocate and payload")
		}
	}
	key := objectKey{serviceKind, d.meta.namespace, d.meta.name}
	if _, twice := d.load.set.services[key]; !twice {
		d.load.set.services[key] = service{address: address, broken: d.broken, reference: reference, apart: apart}
	}
}

// checkedAddress is the scheme and host of an address, "" after a report. It
// has no path: on a cluster the address of a Service has none either.
func checkedAddress(v value, s string) string {
	if v.node == nil || s == "" {
		return ""
	}
	u, why := parseURL(s)
	if why == "" && (strings.TrimPrefix(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil) {
		why = "want http://HOST:PORT and nothing after it: a path belongs into the uri beside the ref"
	}
	if why != "" {
		v.problem("bad address %s: %s", strconv.Quote(s), why)
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// parseURL reads an absolute URL of http or https; why tells what is wrong.
func parseURL(s string) (u *url.URL, why string) {
	u, err := url.Parse(s)
	switch {
	case err != nil && strings.Contains(s, "://"):
		return nil, withoutURL(err)
	case err != nil:
		return nil, "want an absolute URL with http or https"
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "want an absolute URL with http or https"
	case u.Hostname() == "":
		return nil, "has no host"
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, "port " + p + " is not one from 1 to 65535"
		}
	}
	return u, ""
}

// withoutURL is the reason in an error of url.Parse, which repeats the URL.
func withoutURL(err error) string {
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // Parse returns it as it is
		return e.Err.Error()
	}
	return err.Error()
}

// serviceFields are the fields of a v1 Service's spec. None but two mean
// anything here.
func serviceFields() fields {
	fs := make(fields)
	for _, k := range []string{
		"allocateLoadBalancerNodePorts", "clusterIP", "clusterIPs", "externalIPs", "externalTrafficPolicy",
		"healthCheckNodePort", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy", "loadBalancerClass",
		"loadBalancerIP", "loadBalancerSourceRanges", "publishNotReadyAddresses", "sessionAffinity",
		"sessionAffinityConfig", "trafficDistribution",
	} {
		fs[k] = ignored
	}
	fs["selector"] = func(v value) { v.stringMap() }
	fs["ports"] = func(v value) {
		v.list(func(item value) {
			item.object(fields{
				"name": ignored, "protocol": ignored, "appProtocol": ignored, "targetPort": ignored,
				"port":     func(v value) { v.integer(1, 65535) },
				"nodePort": func(v value) { v.integer(1, 65535) },
			})
		})
	}
	return fs
}
