package serve

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
)

var (
	errNoToken  = errors.New("no token: want Authorization: Bearer, with a token for the channel's audience")
	errBadToken = errors.New("the token is not a JWT")
)

// subjectOf is who a token says it is of. Nothing of that is verified yet.
func subjectOf(authorization string) (string, error) {
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok || token == "" {
		return "", errNoToken
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errBadToken
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", errBadToken
	}
	var c struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(claims, &c); err != nil || c.Subject == "" {
		return "", errBadToken
	}
	return c.Subject, nil
}
