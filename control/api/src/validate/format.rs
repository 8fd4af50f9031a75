//! Checks of single texts: names, labels, keys, numbers. Each returns what is wrong, in upstream's words.
