"""What is learned: readers of the public sets, networks, training, bundles, and the engines that run them."""
