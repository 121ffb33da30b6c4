// Package ring renews keys that are kept in a Secret, without a moment at which what
// is signed with one is not trusted. It is pure: what is, and the time, make what is
// next.
//
//	current              signs
//	current, next        signs with current; both are trusted    \ each for the
//	current, former      signs with what was next; both are       / overlap at least
//	current              signs
//
// Whoever trusts is told of the next one before it signs, and of the former one for as
// long as what it has signed may be under way. Several processes may turn the same
// Secret: who is late gets a conflict, and sees what the other one made.
//
// By hand: taking the annotation [Changed] away begins a turn at once. Emptying the
// Secret forgets everything: what is signed with a key that was stolen is trusted no
// more, from the moment on that everybody has heard of it.
package ring
