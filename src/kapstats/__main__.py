from kapstats.cli import main

raise SystemExit(main())
