package stores

// NeedsNATS tells whether Open needs Options.NATS for a URL.
func NeedsNATS(rawURL string) bool {
	u, _, err := parse(rawURL)
	return err == nil && u.Scheme == "nats" && u.Query().Get("url") == ""
}
