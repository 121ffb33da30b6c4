package manifest

import "strconv"

// decodeObservability reads Knative's ConfigMap config-observability as far as it is
// about traces: what else is in it is for others.
func (d *document) decodeObservability(root value) {
	t := &d.load.set.Config.Tracing
	root.object(d.fields(fields{
		"immutable": ignored,
		"data": func(v value) {
			v.eachField(func(key string, field value) {
				switch {
				case field.null():
				case key == "tracing-protocol":
					t.Protocol = field.oneOf("none", "grpc", "http/protobuf", "stdout")
				case key == "tracing-endpoint":
					t.Endpoint = field.str()
				case key == "tracing-sampling-rate":
					t.SamplingRate = rate(field)
				}
			})
			t.check(v)
		},
	}))
}

// check reports what does not fit together.
func (t *Tracing) check(v value) {
	switch sends := t.Protocol == "grpc" || t.Protocol == "http/protobuf"; {
	case sends && t.Endpoint == "":
		v.at("tracing-endpoint").problem("is required with tracing-protocol %s", t.Protocol)
	case !sends && t.Endpoint != "":
		v.at("tracing-endpoint").problem("goes with tracing-protocol grpc or http/protobuf")
	}
}

// rate reads a number from 0 to 1, which is a string in a ConfigMap.
func rate(v value) float64 {
	s := v.str()
	if !isString(v.node) {
		return 0
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= 1) {
		v.problem("want a number from 0 to 1, got %q", v.text())
		return 0
	}
	return f
}
