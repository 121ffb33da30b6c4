package serve

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

var (
	errNoToken  = errors.New("no token: want Authorization: Bearer, with a token for the channel's audience")
	errBadToken = errors.New("the token is not a JWT")
)

// maxExpires is far enough away, and no overflow: the year 9999.
const maxExpires = 253402300799

// subjectOf is who a token says it is of, and until when. Nothing of that is verified
// yet.
func subjectOf(authorization string) (subject string, expires time.Time, err error) {
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok || token == "" {
		return "", time.Time{}, errNoToken
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", time.Time{}, errBadToken
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", time.Time{}, errBadToken
	}
	var c struct {
		Subject string  `json:"sub"`
		Expires float64 `json:"exp"` // seconds, with a fraction perhaps (RFC 7519, 2)
	}
	if err := json.Unmarshal(claims, &c); err != nil || c.Subject == "" {
		return "", time.Time{}, errBadToken
	}
	return c.Subject, time.Unix(int64(min(c.Expires, maxExpires)), 0), nil
}
