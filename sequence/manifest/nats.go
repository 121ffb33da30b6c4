package manifest

import (
	"net/url"
	"strings"
	"time"
)

// NATS is the data key nats: which server, who we are there, and how it stores.
// Storage and Sync are for the embedded server, too. Paths are those of files
// that are read anew for each connection.
type NATS struct {
	// URL is one or more servers' (nats:// or tls://), separated by commas.
	// Required for BackendNATS.
	URL string
	// CredentialsFile is the path of a .creds file, NKeyFile that of a user's
	// seed, TokenFile that of a token; User comes with PasswordFile. One of
	// these at most; "": none.
	CredentialsFile, NKeyFile, TokenFile, User, PasswordFile string
	// Secret stands for the files, on a cluster: its keys are creds, nkey, token or
	// password (the User's), and ca.crt, tls.crt and tls.key.
	Secret string
	// TLS has the connection encrypted.
	TLS NATSTLS
	// Replicas of each stream, 1 to 5; 0: the backend's default.
	Replicas int
	// Memory: streams are kept in memory and not in files.
	Memory bool
	// SyncAlways: every write reaches the disk before it is confirmed.
	SyncAlways bool
	// SyncInterval is how often writes reach the disk; 0: the server's
	// default of 2 minutes.
	SyncInterval time.Duration
}

// NATSTLS are files in PEM: the authorities that a server's certificate may come
// from ("": the system's), and a certificate and key of our own ("": none).
type NATSTLS struct{ CAFile, CertFile, KeyFile string }

func nats(v value) NATS {
	var n NATS
	v.object(fields{
		"url": func(v value) {
			n.URL = v.str()
			checkServers(v, n.URL)
		},
		"credentialsFile": path(&n.CredentialsFile),
		"nkeyFile":        path(&n.NKeyFile),
		"tokenFile":       path(&n.TokenFile),
		"user":            path(&n.User),
		"passwordFile":    path(&n.PasswordFile),
		"secret":          secret(&n.Secret, "credentialsFile, nkeyFile, tokenFile, or user and passwordFile"),
		"password":        unavailable("a ConfigMap is no place for secrets; use passwordFile"),
		"token":           unavailable("a ConfigMap is no place for secrets; use tokenFile"),
		"tls": func(v value) {
			v.object(fields{"ca": path(&n.TLS.CAFile), "cert": path(&n.TLS.CertFile), "key": path(&n.TLS.KeyFile)})
			if (n.TLS.CertFile == "") != (n.TLS.KeyFile == "") {
				v.problem("cert and key go together")
			}
		},
		"replicas": func(v value) { n.Replicas = int(v.integer(1, 5)) },
		"storage":  func(v value) { n.Memory = v.oneOf("file", "memory") == "memory" },
		"sync": func(v value) {
			if s := v.str(); s == "always" {
				n.SyncAlways = true
			} else if isString(v.node) {
				n.SyncInterval = goDuration(v, time.Second)
			}
		},
	})
	n.checkIdentity(v)
	return n
}

// path reads what must not be empty where it is given.
func path(to *string) func(value) {
	return func(v value) {
		if *to = v.str(); *to == "" && isString(v.node) {
			v.problem("it is empty")
		}
	}
}

func (n *NATS) checkIdentity(v value) {
	var given []string
	for _, way := range []struct{ key, value string }{
		{"credentialsFile", n.CredentialsFile},
		{"nkeyFile", n.NKeyFile},
		{"tokenFile", n.TokenFile},
		{"user", n.User},
	} {
		if way.value != "" {
			given = append(given, way.key)
		}
	}
	if len(given) > 1 {
		v.problem("%s: one of them at most is possible", strings.Join(given, " and "))
	}
	if n.Secret != "" {
		if n.CredentialsFile != "" || n.NKeyFile != "" || n.TokenFile != "" || n.PasswordFile != "" || n.TLS != (NATSTLS{}) {
			v.problem("secret stands for all files: name either it or them")
		}
		return
	}
	if (n.User == "") != (n.PasswordFile == "") {
		v.problem("user and passwordFile go together")
	}
}

// checkServers looks at each URL of a list with commas.
func checkServers(v value, list string) {
	if !isString(v.node) {
		return
	}
	for s := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(s))
		switch {
		case err != nil:
			v.problem("bad URL: %s", withoutURL(err))
		case u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "":
			v.problem("want nats://HOST:PORT or tls://HOST:PORT, got %q", u.Redacted())
		case u.User != nil:
			v.problem("a URL must not hold credentials; use credentialsFile, nkeyFile, tokenFile, or user and passwordFile")
		}
	}
}
