"""Rules on a RayService and what stands beside it, by subject. Each module registers its own."""
