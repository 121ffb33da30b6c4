package v1alpha1

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/yaml"
)

// crd is the CRD that is installed.
func crd(t *testing.T) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "config", "100-sidestepchannel.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c := new(apiextensionsv1.CustomResourceDefinition)
	if err := yaml.UnmarshalStrict(b, c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheCRDIsAChannelForKnative(t *testing.T) {
	c := crd(t)
	for _, label := range []string{"messaging.knative.dev/subscribable", "duck.knative.dev/addressable"} {
		if c.Labels[label] != "true" {
			t.Errorf("label %s is %q", label, c.Labels[label])
		}
	}
	n := c.Spec.Names
	if n.Kind != Kind || !strings.HasSuffix(n.Kind, "Channel") || n.Plural != Resource || c.Spec.Group != Group {
		t.Errorf("names are %+v of group %s", n, c.Spec.Group)
	}
	guess, _ := meta.UnsafeGuessKindToResource(GroupVersion.WithKind(Kind))
	if guess.Resource != n.Plural {
		t.Errorf("Knative guesses the plural %s, it is %s", guess.Resource, n.Plural)
	}
	if !slices.Contains(n.Categories, "channel") {
		t.Errorf("categories are %v", n.Categories)
	}
	v := c.Spec.Versions[0]
	if len(c.Spec.Versions) != 1 || v.Name != Version || v.Subresources == nil || v.Subresources.Status == nil {
		t.Errorf("versions are %+v", c.Spec.Versions)
	}
	var columns []string
	for _, col := range v.AdditionalPrinterColumns {
		columns = append(columns, col.Name)
	}
	for _, want := range []string{"URL", "Age", "Ready", "Reason", "Backend", "Lag", "Oldest"} {
		if !slices.Contains(columns, want) {
			t.Errorf("no column %s", want)
		}
	}
}

// What the schema does not name is pruned, unless it says otherwise.
func TestTheCRDKeepsEveryFieldOfTheTypes(t *testing.T) {
	schema := crd(t).Spec.Versions[0].Schema.OpenAPIV3Schema
	walk(t, "spec", reflect.TypeFor[SidestepChannelSpec](), schema.Properties["spec"])
	walk(t, "status", reflect.TypeFor[SidestepChannelStatus](), schema.Properties["status"])
	for _, p := range []apiextensionsv1.JSONSchemaProps{
		schema.Properties["spec"].Properties["delivery"],
		schema.Properties["spec"].Properties["subscribers"].Items.Schema.Properties["delivery"],
	} {
		if p.XPreserveUnknownFields == nil || !*p.XPreserveUnknownFields {
			t.Error("a delivery loses fields that a newer eventing may add")
		}
	}
}

// walk looks for every field of a type in a schema.
func walk(t *testing.T, path string, of reflect.Type, schema apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	switch of.Kind() {
	case reflect.Pointer:
		walk(t, path, of.Elem(), schema)
		return
	case reflect.Slice:
		if schema.Items == nil || schema.Items.Schema == nil {
			t.Errorf("%s is no array", path)
			return
		}
		walk(t, path+"[]", of.Elem(), *schema.Items.Schema)
		return
	case reflect.Struct:
	default:
		return
	}
	if schema.Type != "object" {
		return // it is written as a string: a URL, a time
	}
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && f.Anonymous {
			walk(t, path, f.Type, schema)
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		p, ok := schema.Properties[name]
		if !ok {
			t.Errorf("%s.%s is not in the schema", path, name)
			continue
		}
		walk(t, path+"."+name, f.Type, p)
	}
}
