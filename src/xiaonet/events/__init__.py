"""Events from picks: association, and files for programs that locate."""
