// Package e2etest tests Sidestep as users have it: installed on a real cluster beside
// Knative Eventing, with its pods killed, evicted and replaced under load. It has tests
// only, and they are skipped unless SIDESTEP_E2E is set; hack/e2e boots a cluster,
// installs all and runs them.
//
//	test --> API server (objects; reports of the actors through its proxy)
//	  |
//	  '-- kills pods
//
//	client --> channel --> step --> channel --> step ... --> collector
//	(actor)    `----------- dispatchers -----------'          (actor)
//
// All parts of a flow run as pods of one program, actor, so that nothing has to reach
// the machine on which the tests run.
package e2etest
