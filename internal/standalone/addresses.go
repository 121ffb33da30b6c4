package standalone

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/sidestep-dev/sidestep/sequence/manifest"
)

// printAddresses tells where events for the objects are posted.
func printAddresses(w io.Writer, addresses []manifest.Address, asJSON bool) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, a := range addresses {
		var err error
		if asJSON {
			err = enc.Encode(struct {
				Kind      string `json:"kind"`
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
				URL       string `json:"url"`
			}{a.Kind, a.Namespace, a.Name, a.URL})
		} else {
			_, err = fmt.Fprintf(w, "%s %s/%s  %s\n", strings.ToLower(a.Kind), a.Namespace, a.Name, a.URL)
		}
		if err != nil {
			return fmt.Errorf("print addresses: %w", err)
		}
	}
	return nil
}
