package manifest

import (
	"strings"
	"testing"
)

func configText(data string) []byte {
	return []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-sidestep}\ndata:\n" + data)
}

func TestSecretsStandForFilesOnAClusterAlone(t *testing.T) {
	text := configText(`  backend: nats
  nats: |
    url: nats://n:4222
    user: me
    secret: nats-login
  kafka: |
    brokers: ["k:9092"]
    sasl: {mechanism: PLAIN, secret: kafka-login}
    tls: {secret: kafka-tls}
  claim-check: |
    store: s3://bucket
    secret: s3-login
`)
	set, err := ParseOnCluster("c", text)
	if err != nil {
		t.Fatal(err)
	}
	c := set.Config
	if c.NATS.Secret != "nats-login" || c.NATS.User != "me" || c.Kafka.SASL.Secret != "kafka-login" || !c.Kafka.TLS ||
		c.Kafka.TLSSecret != "kafka-tls" || c.ClaimCheck.Secret != "s3-login" {
		t.Errorf("got %+v", c)
	}
	_, err = Parse("c", text)
	for _, field := range []string{"data.nats.secret", "data.kafka.sasl.secret", "data.kafka.tls.secret", "data.claim-check.secret"} {
		if err == nil || !strings.Contains(err.Error(), field+": a Secret cannot be read here; use ") {
			t.Errorf("in a file: %v, want %s refused", err, field)
		}
	}
}

func TestASecretBesideTheFilesThatItStandsForIsRefused(t *testing.T) {
	for data, want := range map[string]string{
		"  nats: |\n    {url: 'nats://n', secret: s, tokenFile: /t}\n":                            "secret stands for all files",
		"  nats: |\n    {url: 'nats://n', secret: s, tls: {ca: /c}}\n":                            "secret stands for all files",
		"  nats: |\n    {url: 'nats://n', secret: S_}\n":                                          "not a valid name",
		"  kafka: |\n    {brokers: ['k:1'], sasl: {mechanism: PLAIN, secret: s, userFile: /u}}\n": "name either it or them",
		"  kafka: |\n    {brokers: ['k:1'], sasl: {secret: s}}\n":                                 "secret goes with a mechanism",
		"  kafka: |\n    {brokers: ['k:1'], tls: {secret: s, ca: /c}}\n":                          "name either it or them",
		"  claim-check: |\n    {store: 'file:///f', secret: s}\n":                                 "a store that takes credentials",
		"  claim-check: |\n    {store: 's3://b?credentials-file=/f', secret: s}\n":                "a store that takes credentials",
		"  claim-check: |\n    {store: 'nats://bucket', secret: s}\n":                             "a store that takes credentials",
		"  claim-check: |\n    {secret: s}\n":                                                     "a store that takes credentials",
	} {
		if _, err := ParseOnCluster("c", configText(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", data, err, want)
		}
	}
}
