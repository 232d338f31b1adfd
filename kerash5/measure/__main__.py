"""Run the job on stdin: `python -m kerash5.measure`."""

from kerash5.measure._measure import main

if __name__ == "__main__":
    main()
