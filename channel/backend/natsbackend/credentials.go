package natsbackend

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// validateIdentity looks at the fields that say who we are.
func (c *Config) validateIdentity() error {
	given := c.identities()
	if len(given) > 1 {
		return fmt.Errorf("nats: %s: one of them at most is possible", strings.Join(given, " and "))
	}
	if c.Server != nil && (len(given) > 0 || c.secure()) {
		return errors.New("nats: an embedded server takes neither credentials nor certificates")
	}
	if c.User == "" && (c.Password != "" || c.PasswordFile != "") {
		return errors.New("nats: Password without User")
	}
	if c.User != "" && (c.Password == "") == (c.PasswordFile == "") {
		return errors.New("nats: User: exactly one of Password and PasswordFile is wanted with it")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("nats: CertFile and KeyFile go together")
	}
	return nil
}

// identities names the ways in which we would say who we are.
func (c *Config) identities() []string {
	var given []string
	add := func(name string, set bool) {
		if set {
			given = append(given, name)
		}
	}
	if c.URL != "" {
		for _, s := range servers(c.URL) {
			if u, err := url.Parse(s); err == nil && u.User != nil {
				add("a user in URL", true)
				break
			}
		}
	}
	add("CredentialsFile", c.CredentialsFile != "")
	add("NKeyFile", c.NKeyFile != "")
	add("Token", c.Token != "")
	add("TokenFile", c.TokenFile != "")
	add("User", c.User != "")
	return given
}

// secure: the connection is to be encrypted, whatever the server wants.
func (c *Config) secure() bool {
	if c.CAFile != "" || c.CertFile != "" {
		return true
	}
	for _, s := range servers(c.URL) {
		if strings.HasPrefix(s, "tls:") {
			return true
		}
	}
	return false
}

// authentication returns the client options that identify us. All files are read
// once here, so that a mistake is told in full, and again for each connection.
func (c *Config) authentication() ([]nats.Option, error) {
	switch {
	case c.CredentialsFile != "":
		return c.credentials()
	case c.NKeyFile != "":
		public, err := publicKey(c.NKeyFile)
		if err != nil {
			return nil, err
		}
		return []nats.Option{nats.Nkey(public, func(nonce []byte) ([]byte, error) {
			return signNonce(c.NKeyFile, nonce)
		})}, nil
	case c.TokenFile != "":
		if _, err := secretIn(c.TokenFile); err != nil {
			return nil, err
		}
		return []nats.Option{nats.TokenHandler(func() string { return c.reread(c.TokenFile) })}, nil
	case c.PasswordFile != "":
		if _, err := secretIn(c.PasswordFile); err != nil {
			return nil, err
		}
		return []nats.Option{nats.UserInfoHandler(func() (string, string) {
			return c.User, c.reread(c.PasswordFile)
		})}, nil
	case c.Token != "":
		return []nats.Option{nats.Token(c.Token)}, nil
	case c.User != "":
		return []nats.Option{nats.UserInfo(c.User, c.Password)}, nil
	}
	return nil, nil
}

func (c *Config) credentials() ([]nats.Option, error) {
	jwt := func() (string, error) {
		content, err := os.ReadFile(c.CredentialsFile)
		if err != nil {
			return "", fmt.Errorf("read credentials: %w", err)
		}
		defer clear(content)
		j, err := nkeys.ParseDecoratedJWT(content)
		if err != nil || strings.Count(j, ".") != 2 {
			return "", fmt.Errorf("credentials file %s holds no user JWT", c.CredentialsFile)
		}
		return j, nil
	}
	if _, err := jwt(); err != nil {
		return nil, err
	}
	if _, err := publicKey(c.CredentialsFile); err != nil {
		return nil, err
	}
	return []nats.Option{nats.UserJWT(jwt, func(nonce []byte) ([]byte, error) {
		return signNonce(c.CredentialsFile, nonce)
	})}, nil
}

// reread is for when the library takes no error: the server will refuse us then,
// and we try again later.
func (c *Config) reread(file string) string {
	s, err := secretIn(file)
	if err != nil {
		c.Logger.Warn("JetStream connection", "error", err)
	}
	return s
}

// secretIn is what a file holds.
func secretIn(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	s := strings.TrimSpace(string(content))
	if s == "" {
		return "", fmt.Errorf("secret file %s is empty", file)
	}
	return s, nil
}

// keyIn is the user's key pair of a file. The caller wipes it.
func keyIn(file string) (nkeys.KeyPair, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read nkey: %w", err)
	}
	defer clear(content)
	// The cause is left out: it would be about the secret.
	k, err := nkeys.ParseDecoratedNKey(content)
	if err != nil {
		return nil, fmt.Errorf("file %s holds no nkey seed", file)
	}
	if public, err := k.PublicKey(); err != nil || !nkeys.IsValidPublicUserKey(public) {
		k.Wipe()
		return nil, fmt.Errorf("file %s holds an nkey that is not a user's", file)
	}
	return k, nil
}

func publicKey(file string) (string, error) {
	k, err := keyIn(file)
	if err != nil {
		return "", err
	}
	defer k.Wipe()
	return k.PublicKey()
}

func signNonce(file string, nonce []byte) ([]byte, error) {
	k, err := keyIn(file)
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return k.Sign(nonce)
}
