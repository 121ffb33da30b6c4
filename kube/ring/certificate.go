package ring

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// certificateLife is how long a certificate is valid: should nobody renew it, somebody
// has that long to notice.
const certificateLife = 365 * 24 * time.Hour

// Certificates is the ring of a server's certificate for a host, which its clients
// trust by itself. They are the API server, and are told by a field that they watch.
func Certificates(host string) *Ring {
	return &Ring{
		Make:   func(now time.Time) ([]byte, error) { return makeCertificate(host, now) },
		Public: publicCertificate,
		Usable: func(key []byte, now time.Time) error {
			c, err := ParseCertificate(key)
			if err != nil {
				return err
			}
			if !now.Before(c.Leaf.NotAfter) {
				return fmt.Errorf("has expired at %v", c.Leaf.NotAfter)
			}
			return c.Leaf.VerifyHostname(host)
		},
		Age:     30 * 24 * time.Hour,
		Overlap: 10 * time.Minute,
	}
}

// ParseCertificate reads a key of such a ring.
func ParseCertificate(key []byte) (*tls.Certificate, error) {
	c, err := tls.X509KeyPair(key, key)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func makeCertificate(host string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"sidestep"}},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), nil
}

func publicCertificate(key []byte) ([]byte, error) {
	for b := key; ; {
		block, rest := pem.Decode(b)
		switch {
		case block == nil:
			return nil, errors.New("no certificate")
		case block.Type == "CERTIFICATE":
			return pem.EncodeToMemory(block), nil
		}
		b = rest
	}
}
