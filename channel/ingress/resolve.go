package ingress

import (
	"net"
	"net/http"
	"strings"

	"github.com/sidestep-dev/sidestep/channel"
)

// resolve finds the channel that a request is for: by the full host name, or
// else by the path /namespace/name. An error is a refusal.
func resolve(v *channel.View, r request) (*channel.Channel, error) {
	host, path := hostname(r.Host()), r.Path()
	if c := v.ByHost(host); c != nil {
		if path != "/" && path != "" {
			return nil, refusal{
				status: http.StatusBadRequest,
				text:   "host " + host + " is a channel's: want the path /, not " + path,
			}
		}
		return c, nil
	}
	if path == "/" || path == "" {
		return nil, refusal{
			status: http.StatusNotFound,
			text:   "no channel has the host " + host + "; by path it is /namespace/name",
		}
	}
	// One slash at the end is let through, as Knative's own channels do.
	namespace, name, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, refusal{
			status: http.StatusBadRequest,
			text:   "malformed path " + path + ": want /namespace/name",
		}
	}
	if c := v.ByName(namespace, name); c != nil {
		return c, nil
	}
	return nil, refusal{
		status: http.StatusNotFound,
		text:   "there is no channel " + namespace + "/" + name,
	}
}

// hostname is the Host header's without its port, in lower case (RFC 9110,
// section 4.2.3).
func hostname(host string) string {
	if strings.IndexByte(host, ':') >= 0 {
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
