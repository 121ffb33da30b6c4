package claimcheck

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryAfter is what a client is told to wait for a store that is unavailable.
const retryAfter = 5 * time.Second

// Handler serves links: GET and HEAD, one range at a time, If-Range and
// If-None-Match with the SHA-256 as ETag.
//
//	200, 206  the payload; every block verified before it is sent. If one is corrupted, the
//	          connection is cut: nobody gets a complete answer that is wrong
//	403       not signed by us, changed, or expired
//	404       no link at all, or the payload is gone
//	405, 416  as usual
//	503       the store is unavailable; Retry-After
func (r *Checkroom) Handler() http.Handler {
	return http.HandlerFunc(r.serve)
}

func (r *Checkroom) serve(w http.ResponseWriter, req *http.Request) {
	token, ok := strings.CutPrefix(req.URL.Path, LinkPath)
	if !ok || token == "" || strings.ContainsAny(token, "/.") {
		http.Error(w, "there is no such payload", http.StatusNotFound)
		return
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "a payload can only be read", http.StatusMethodNotAllowed)
		return
	}
	c, _, err := r.ParseLink(req.URL.Path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	content, err := r.openRanges(req.Context(), c)
	if err != nil {
		refuse(w, err)
		return
	}
	defer content.Close()
	head(w.Header(), content.claim)
	// Each range would cost a block: who wants many gets all.
	if strings.Contains(req.Header.Get("Range"), ",") {
		req = req.Clone(req.Context())
		req.Header.Del("Range")
	}
	body := &watched{ReadSeeker: content}
	http.ServeContent(w, req, "", time.Time{}, body)
	if body.err != nil {
		// What was sent is shorter than announced. Say so on every version of HTTP.
		panic(http.ErrAbortHandler)
	}
}

func refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, ErrNotFound):
		http.Error(w, "the payload is gone", http.StatusNotFound)
	case errors.Is(err, ErrCorrupt):
		http.Error(w, "the payload is corrupted", http.StatusInternalServerError)
	default:
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		http.Error(w, "the payload store is unavailable", http.StatusServiceUnavailable)
	}
}

func head(h http.Header, c *Claim) {
	contentType := c.ContentType
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	h.Set("Content-Type", contentType)
	h.Set("Etag", `"`+hashOf(c)+`"`)
	h.Set("Cache-Control", "private, no-store")
	// It is a stranger's payload at our address: no browser may run it.
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
}

// watched keeps the error that ServeContent does not tell of.
type watched struct {
	io.ReadSeeker
	err error
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadSeeker.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}
