package workload

import (
	"encoding/json"
	"testing"
)

func TestDataIsValidJSONOfTheStatedSizeThatPassesItsOwnCheck(t *testing.T) {
	for step := 0; step <= Steps; step++ {
		data := Data(step)
		if !json.Valid(data) {
			t.Errorf("data of step %d is not JSON: %s", step, data)
		}
		if err := Check(step, Type(step), data); err != nil {
			t.Errorf("step %d: %v", step, err)
		}
	}
}

func TestCheckRefusesWhatAnotherStepMade(t *testing.T) {
	for name, err := range map[string]error{
		"type":   Check(2, Type(1), Data(2)),
		"data":   Check(2, Type(2), Data(1)),
		"length": Check(2, Type(2), Data(2)[:100]),
		"empty":  Check(2, Type(2), nil),
	} {
		if err == nil {
			t.Errorf("a wrong %s passed", name)
		}
	}
}
