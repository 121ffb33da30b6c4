package stores

import "maps"

// tagged are the schemes that build tags add.
func tagged() map[string]scheme {
	all := map[string]scheme{}
	maps.Copy(all, gcs())
	maps.Copy(all, azure())
	return all
}
