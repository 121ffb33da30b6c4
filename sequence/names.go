package sequence

import (
	"crypto/md5" // as Knative does; nothing here is secret
	"encoding/hex"
	"strconv"
	"strings"
)

const (
	sequenceInfix  = "-kn-sequence-"
	parallelInfix  = "-kn-parallel"
	filterInfix    = "-kn-parallel-filter-"
	serviceSuffix  = "-kn-channel"
	defaultDomain  = "cluster.local"
	maxNameLength  = 63 // what a Service's name may have, in bytes
	hashLength     = 32 // an MD5 sum in hexadecimal
	hashedNameHead = maxNameLength - hashLength
)

// ChannelName is the name of the channel before step i, and of the
// Subscription that runs step i. Unlike a Service's, it is never shortened.
func (s *Sequence) ChannelName(i int) string {
	return s.Name + sequenceInfix + strconv.Itoa(i)
}

// ChannelName is the name of the channel in front of all branches.
func (p *Parallel) ChannelName() string { return p.Name + parallelInfix }

// BranchName is the name of branch i's channel, and of the Subscription that
// runs its subscriber.
func (p *Parallel) BranchName(i int) string {
	return p.Name + parallelInfix + "-" + strconv.Itoa(i)
}

// FilterName is the name of the Subscription that runs the filter of branch i.
func (p *Parallel) FilterName(i int) string {
	return p.Name + filterInfix + strconv.Itoa(i)
}

// Host is the host name of a channel: that of its Service in the cluster
// domain ("" means cluster.local), in lower case.
func Host(namespace, channel, domain string) string {
	if domain == "" {
		domain = defaultDomain
	}
	return strings.ToLower(ChildName(channel, serviceSuffix) + "." + namespace + ".svc." + domain)
}

// ChildName joins a parent's name and a suffix to a name of at most 63 bytes,
// exactly as kmeta.ChildName of knative.dev/pkg does: where they are too long
// together, a hash takes the place of what had to go.
func ChildName(parent, suffix string) string {
	if len(parent)+len(suffix) <= maxNameLength {
		return parent + suffix
	}
	if keep := hashedNameHead - len(suffix); keep > 0 {
		return parent[:keep] + hash(parent) + suffix
	}
	// The suffix leaves no room for the parent: the hash is of both, and
	// stands between the beginnings of the two.
	name := parent[:min(len(parent), hashedNameHead)] + hash(parent+suffix)
	if room := maxNameLength - len(name); room > 0 {
		name += suffix[:room]
	}
	return strings.TrimRightFunc(name, notAlphanumeric)
}

func hash(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func notAlphanumeric(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
