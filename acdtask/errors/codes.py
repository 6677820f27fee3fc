"""All error codes. Exit statuses, retries and the reference page are derived from this enum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum

__all__ = ["ErrorCode", "ErrorSpec", "ExitStatus"]


class ExitStatus(IntEnum):
    """Exit statuses of every command. 64 and 65 belong to Argo's executor and are never used."""

    OK = 0
    USAGE = 2
    INPUT = 66
    BUG = 70
    TRANSIENT = 75
    CONFIG = 78


@dataclass(frozen=True)
class ErrorSpec:
    """The fixed part of an error: number, exit status, meaning and fix."""

    number: int
    exit_status: ExitStatus
    meaning: str
    fix: str

    @property
    def retryable(self) -> bool:
        """Whether the same command may succeed later without any change."""
        return self.exit_status is ExitStatus.TRANSIENT


def _specs(exit_status: ExitStatus) -> Callable[[int, str, str], ErrorSpec]:
    return lambda number, meaning, fix: ErrorSpec(number, exit_status, meaning, fix)


_usage, _input, _bug = _specs(ExitStatus.USAGE), _specs(ExitStatus.INPUT), _specs(ExitStatus.BUG)
_transient, _config = _specs(ExitStatus.TRANSIENT), _specs(ExitStatus.CONFIG)


class ErrorCode(Enum):
    """1xx settings, 2xx input, 3xx cube, 4xx storage, 5xx runs, 6xx notifications, 7xx Geocube, 9xx bugs."""

    USAGE = _usage(100, "The command line is wrong.", "Run the command with --help.")
    SETTING_INVALID = _config(
        101, "A setting has an invalid value.", "Set the named setting to a value that the message allows."
    )
    NAME_INVALID = _config(
        102, "A name has invalid characters.", "Use letters, digits, '-', ':' and '_', with '/' between parts."
    )
    NAME_TOO_LONG = _config(103, "A name is too long.", "Use a shorter name; the message gives the limit in bytes.")
    FILE_UNFIT = _config(
        104,
        "A file given to an option is not a regular file, or is too large.",
        "Give a regular file no larger than the limit in the message.",
    )
    AOI_UNREADABLE = _config(
        110,
        "The AOI cannot be read.",
        "Give GeoJSON with polygons and a name, as QGIS, geojson.io or a Geocube ingester write it.",
    )
    AOI_EMPTY = _config(111, "The AOI has no area.", "Draw at least one polygon with an area.")
    AOI_INVALID = _config(
        112,
        "The AOI's geometry is not valid.",
        "Repair the geometry at the location in the message, so that no ring crosses itself.",
    )
    AOI_OUTSIDE = _config(
        113,
        "No record touches the AOI.",
        "Check the AOI's coordinates (longitude first) and the records with 'acdtask records'.",
    )
    AOI_CRS = _config(
        114,
        "The AOI's coordinate system is not supported.",
        "Export the area again in EPSG:4326 (longitude and latitude).",
    )
    EXTRA_MISSING = _config(115, "An optional Python package is not installed.", "Install it as the message says.")
    PROJECT_INVALID = _config(
        116,
        "The file acd.toml is invalid.",
        "Correct what the message names; 'acdtask init --force' writes a new file.",
    )
    PROJECT_EXISTS = _config(117, "The file acd.toml already exists.", "Edit it, or add --force to overwrite it.")
    INPUT_MISSING = _input(200, "No input was found.", "Check the source address and the filename pattern.")
    INPUT_UNREADABLE = _input(
        201, "A file is damaged or not a raster.", "Fetch the named file again, or remove it from the source."
    )
    INPUT_CRS_MISSING = _input(
        202, "A raster has no coordinate system.", "Write the coordinate system into the named file (gdal_edit -a_srs)."
    )
    INPUT_CRS_MISMATCH = _input(
        203,
        "Rasters of one ingest have different coordinate systems.",
        "Ingest the files of each coordinate system separately.",
    )
    INPUT_RESOLUTION_MISMATCH = _input(
        204, "Rasters of one ingest have different resolutions.", "Ingest the files of each resolution separately."
    )
    INPUT_ALL_NODATA = _input(
        205, "A raster has no valid pixels.", "Remove the named file from the source, or check its nodata value."
    )
    INPUT_NOT_FINITE = _input(
        206,
        "A raster contains infinite values other than its nodata value.",
        "Give the infinite value as nodata (--source-nodata inf or -inf), or correct the named file.",
    )
    INPUT_OUT_OF_RANGE = _input(
        207,
        "Values lie outside the range of the variable.",
        "Give the real range of the source values, or correct the named file.",
    )
    INPUT_BANDS = _input(
        208,
        "A raster does not have the expected bands or data type, or does not say which band to read.",
        "Choose the band (--band), or remove the named file from the source.",
    )
    INPUT_NODATA_UNKNOWN = _input(
        209,
        "A raster does not define its nodata value.",
        "Give the nodata value of the source (--source-nodata), or nan if only NaN pixels are nodata.",
    )
    FILENAME_UNMATCHED = _input(
        210,
        "A filename does not match the pattern.",
        "Change --pattern so that it matches the named file, or give the --producer of the images.",
    )
    INPUT_DUPLICATE = _input(
        211,
        "Two inputs are the same record.",
        "Remove one of the named inputs, or distinguish them with a tag in the pattern.",
    )
    DATES_OUT_OF_ORDER = _input(
        212, "A pair ends before it starts.", "Correct the pattern or the named input: the earlier date is the start."
    )
    TOO_FEW_DATES = _input(
        213,
        "There are fewer dates than the job needs.",
        "Widen the time range with --start and --end, or lower --min-dates.",
    )
    STAC_INVALID = _input(
        214,
        "A STAC document is invalid or unsupported.",
        "Give STAC items with GeoTIFF assets: .json, .geojson, .ndjson, or .parquet (stac-geoparquet).",
    )
    DATE_INVALID = _input(215, "A date cannot be read.", "Write dates as YYYY-MM-DD, or in the format of the pattern.")
    TRUTH_UNREADABLE = _input(
        216, "The truth file is invalid.", "Give a GeoJSON feature collection of events, each with a date."
    )
    INPUT_REFERS_OUTSIDE = _input(
        217,
        "A VRT refers to something other than rasters below the source folder.",
        "Move the named file below the source and refer to it by a relative path, or write a GeoTIFF (gdal_translate).",
    )
    INPUT_CHANGED = _input(
        220,
        "A source file changed while it was being ingested.",
        "Run the command again once nothing writes to the source; the file is then planned and checked again.",
    )
    INPUT_RANGE_UNKNOWN = _input(
        221,
        "A raster does not say what its values mean.",
        "Give the source values of the variable's minimum and maximum (--source-minimum, --source-maximum).",
    )
    INPUT_CONTRADICTORY = _input(
        222,
        "A raster and its STAC item disagree about the meaning of its values.",
        "Correct the item or the file, or override both with --source-minimum and --source-maximum.",
    )
    INPUT_TOO_LARGE = _input(
        223,
        "A raster has too many pixels to ingest at once.",
        "Cut it into parts first (gdal_translate -srcwin), each in its own file.",
    )
    FILENAME_AMBIGUOUS = _input(
        230, "A filename has more dates than the pattern has fields.", "Give --pattern a field for each date."
    )
    SOURCE_FORMAT = _input(
        231, "The images of the source are in an unsupported format.", "Convert them to GeoTIFF as the message says."
    )
    STAC_API_FAILED = _input(
        232,
        "A STAC API did not return the requested items.",
        "Check the address: https://.../collections/NAME, or https://.../search?collections=NAME.",
    )
    SOURCE_TOO_LARGE = _config(
        233,
        "The source has more items than one ingest can take.",
        "Give --aoi, so that only items of its area and time range are requested.",
    )
    STAC_API_UNREACHABLE = _transient(
        234,
        "A STAC API does not respond.",
        "Check the address and the network; the same command continues where it stopped.",
    )
    SOURCE_DIFFERS = _input(
        240,
        "The pixels of a record differ between the source and the cube.",
        "Take the new pixels with --on-known replace, or keep the cube's with --on-known keep.",
    )
    POLARISATION_MISMATCH = _input(
        241,
        "The files have several polarisations, or another one than the variable.",
        "Name the variable after the polarisation (--variable CoherenceHH), or choose one with --polarisation.",
    )
    TRACKS_MIXED = _input(
        242,
        "The selected images are of several tracks, which are not comparable.",
        "Choose one track with --track, or combine them deliberately with --mixed.",
    )
    POLARISATIONS_MIXED = _input(
        243,
        "The selected images have several polarisations, which are not comparable.",
        "Choose one with --tags polarisation=VV, or combine them deliberately with --mixed.",
    )
    PAIRS_INTERLEAVED = _input(
        244,
        "The selected pairs form several series that overlap in time but share no date, as two tracks would.",
        "Choose one series with --records, or ingest each with its --track; if they are of one track, add --mixed.",
    )
    RECORDS_OVERLAP = _input(
        245,
        "Two records of the same day cover the same ground, and their tracks are unknown.",
        "Exclude one with --leave-out, or ingest each with its --track; if they are of one track, add --mixed.",
    )
    TRACK_CONFLICT = _config(
        246,
        "A file belongs to a track other than --track.",
        "Omit --track, since the files state their track, or limit the source to files of that track.",
    )
    NOTHING_CHOSEN = _config(
        247,
        "No record matches the settings that select records.",
        "Give a track, tag or pair length that records have: 'acdtask records' lists them.",
    )
    BASELINE_OF_ANOTHER_TRACK = _input(
        248,
        "The images and the baseline are of different tracks or polarisations.",
        "Choose images of the baseline's track with --track, or name another baseline with --baseline-name.",
    )
    WEB_PAGE = _input(
        249,
        "A server returned a web page instead of an image.",
        "It is usually a login page: give a token (ACD_WEB_TOKEN and ACD_WEB_TOKEN_HOST) or an entry in ~/.netrc.",
    )
    VARIABLE_UNKNOWN = _config(
        300, "The cube has no such variable.", "List the variables with 'acdtask show variables'."
    )
    INSTANCE_UNKNOWN = _config(
        301, "The variable has no such instance.", "List the instances with 'acdtask show variables'."
    )
    LAYOUT_UNKNOWN = _config(
        302,
        "The cube has no such layout.",
        "List the layouts with 'acdtask layout list', or make one with 'acdtask layout create'.",
    )
    LAYOUT_INVALID = _config(
        303,
        "The layout does not define a valid grid.",
        "Give a projected or geographic CRS, a positive resolution and a cell size of 1 to 65536 px.",
    )
    VARIABLE_CONFLICT = _config(
        304,
        "The variable already exists with another definition.",
        "Use another name, or the definition shown in the message.",
    )
    LAYOUT_CONFLICT = _config(
        305, "The layout already exists with another grid.", "Use another name, or the grid shown in the message."
    )
    DATASET_CONFLICT = _input(
        306,
        "The record already has different data for this instance.",
        "Use another instance, or do not ingest the named record.",
    )
    BASELINE_UNKNOWN = _input(
        307,
        "There is no baseline to compare with.",
        "Run 'acdtask baseline local' for this AOI, variable and layout first.",
    )
    MONITOR_UNKNOWN = _input(
        308, "There is no monitoring result to report.", "Run 'acdtask monitor local' for this AOI first."
    )
    FORMAT_UNKNOWN = _config(309, "The extension of an output file is unknown.", "End it with .parquet or .geojson.")
    CUBE_UNKNOWN = _input(
        310, "There is no cube at this address.", "Check the address, or make a cube with 'acdtask ingest'."
    )
    CUBE_VERSION = _config(
        311, "The cube was written by a newer acd.", "Use the acd version in the message, or a newer one."
    )
    CUBE_DAMAGED = _input(
        312,
        "A file of the cube is missing or damaged.",
        "Run 'acdtask verify': it says how to recreate the file. Restore other files from a backup.",
    )
    IN_USE = _config(
        313, "Something that is in use cannot be removed.", "Remove what uses it first, or together with it."
    )
    FILES_DAMAGED = _input(
        314, "Files of the cube are missing or damaged.", "Run the printed commands in order, then verify again."
    )
    RUN_DAMAGED = _input(
        317, "A file of a run is damaged.", "Delete the folder that the message names and run the job again."
    )
    PRODUCT_DAMAGED = _input(
        318,
        "A published result is damaged.",
        "Restore the named file from a backup, or delete it and rerun the job that wrote it.",
    )
    NOTHING_JUDGED = _config(
        330,
        "No pixel of the new images could be judged.",
        "Change the setting that the message names, or give images that have data in the area.",
    )
    BASELINE_EMPTY = _config(
        331,
        "No pixel of the area has a mean: no image of the baseline has data there.",
        "Check the AOI, --variable and --instance, and the nodata value that the images were ingested with.",
    )
    LAYOUT_TOO_FINE = _config(
        340,
        "The layout has more tiles in the area than a job can take.",
        "Make a layout with a larger --resolution (in the CRS's unit: metres or degrees) or a larger --cell-size.",
    )
    BASELINE_PERIOD_OPEN = _input(
        341,
        "No period was given for the baseline, and the images do not span more than a year.",
        "Give the last date of the baseline (--end, or end in [baseline] of acd.toml); later images are monitored.",
    )
    BASELINE_IMAGES_CHANGED = _config(
        350,
        "The images of the baseline are not those that it was made from: some were removed, added or replaced.",
        "Run 'acdtask baseline local' again, then the monitor.",
    )
    STACK_UNFIT = _input(
        360,
        "An array is neither an image nor a stack of images.",
        "Give a stack of shape (time, y, x) to baseline, and an image of shape (y, x) to monitor.",
    )
    SCALE_UNKNOWN = _config(
        361,
        "The scale of an image's integers is unknown.",
        "Give the scale that turns a stored number into coherence: scale=0.001 for 0 to 1000, scale=1/255 for bytes.",
    )
    PIXELS_DIFFER = _input(
        362,
        "An image and its baseline do not have the same pixels.",
        "Bring both onto one grid first, for example with rioxarray's reproject_match.",
    )
    SAVED_UNREADABLE = _input(
        363,
        "A file is not a saved baseline or change, or it is damaged.",
        "Give a file written by 'save', or compute it again from its images.",
    )
    BASELINE_UNFIT = _config(
        364,
        "The baseline does not fit the monitor.",
        "Give the monitor the variable, layout and transform of the baseline, or compute another baseline.",
    )
    IMAGE_UNJUDGED = _input(
        365,
        "No pixel of an image could be judged.",
        "Change the image, the area or the threshold that the message names.",
    )
    IMAGE_REPEATED = _input(
        366,
        "An image is already in the baseline, or was never in it.",
        "Add each image once, and subtract only images that were added.",
    )
    WEB_DENIED = _config(
        367,
        "A web server refused access to a file.",
        "Give a token (ACD_WEB_TOKEN and ACD_WEB_TOKEN_HOST) or an entry in ~/.netrc; renew a signed URL.",
    )
    WEB_UNREACHABLE = _transient(
        368,
        "A web server did not deliver a file.",
        "Check the address and the network; the same command continues where it stopped.",
    )
    WEB_REDIRECTED = _config(
        369,
        "A URL redirects to a host that acd does not follow.",
        "If you trust that host, download the file and give its folder as --source.",
    )
    MEMBERS_UNFIT = _config(
        380,
        "The results to fuse do not fit together: fewer than two, one twice, of other areas, or without probabilities.",
        "Give two or more different results of this area: --members VARIABLE/LAYOUT/NAME for each, all monitored with"
        " --profile robust.",
    )
    FUSION_UNKNOWN = _input(
        381, "There is no fusion of that name.", "Run 'acdtask fuse local' for this AOI first, or choose its --name."
    )
    STORE_UNREACHABLE = _transient(
        400,
        "The storage does not respond.",
        "Check the endpoint and the network; the same command continues where it stopped.",
    )
    BUCKET_UNKNOWN = _config(401, "There is no such bucket.", "Create the bucket, or correct the address.")
    STORE_DENIED = _config(
        402, "Access to the storage was denied.", "Grant this user read and write access to the named location."
    )
    DISK_FULL = _transient(403, "The disk is full.", "Free some space; the same command continues where it stopped.")
    STORE_CONTENDED = _transient(
        404, "Too many writers changed the cube at once.", "Run the command again in a minute."
    )
    ADDRESS_INVALID = _config(
        405, "The address is neither a folder nor s3://bucket/prefix.", "Give a folder, or s3://bucket/prefix."
    )
    ADDRESS_OUTSIDE = _config(
        406,
        "The server may not open a file at this address.",
        "Move the file below the cube, or name its folder or s3:// prefix with --data when the server starts.",
    )
    ADDRESS_MALFORMED = _config(
        407,
        "The address of a file is neither an absolute path nor an s3:// address.",
        "Give an absolute path or an s3:// address, without GDAL prefixes, queries or control characters.",
    )
    OUTPUT_UNWRITABLE = _config(
        411,
        "An output file or folder cannot be written.",
        "Give a file in an existing folder, or a folder at a path that is not a file.",
    )
    ENDPOINT_INVALID = _config(
        412,
        "The address of the object store in the environment is invalid.",
        "Set AWS_ENDPOINT_URL to http:// or https://, a host and optionally a port, or unset it for AWS.",
    )
    STORE_CONFIG_INVALID = _config(
        413,
        "The object store's configuration in the environment is invalid.",
        "Correct the environment variable (AWS_...) that the message names.",
    )
    KEY_UNFIT = _input(
        414,
        "An object's key cannot be read.",
        "Copy the named object to a key without empty parts (//), '.' and '..', or give a prefix that excludes it.",
    )
    PLAN_UNKNOWN = _input(500, "There is no such plan.", "Run 'plan' first, and give the plan id that it prints.")
    SHARD_UNKNOWN = _config(501, "The plan has no such round or shard.", "Use a round and shard printed by 'plan'.")
    SHARDS_MISSING = _transient(
        502, "Some shards of the round are not done.", "Run the named shards, then gather again."
    )
    WORKER_LOST = _transient(
        503,
        "A worker process was killed.",
        "Give it more memory, or use fewer workers; the same command continues where it stopped.",
    )
    INTERRUPTED = _transient(
        504, "The run was interrupted.", "Run the same command again: it does only the missing work."
    )
    PLAN_STALE = _config(505, "The plan was made by another version of acd.", "Plan again.")
    PLAN_TOO_LARGE = _config(
        506,
        "The plan is too large for one workflow.",
        "Make smaller shards, or plan a shorter time range or a smaller AOI.",
    )
    SHARDS_FAILED = _input(
        507,
        "More shards failed permanently than --quarantine allows.",
        "Fix the cause in the message and run again; only these shards are redone. Or leave them out: --quarantine.",
    )
    PLAN_OVERTAKEN = _input(
        508,
        "A newer plan has already published other results for the same images.",
        "Run the job again: it plans the remaining work, and nothing is lost.",
    )
    RUN_UNKNOWN = _input(
        510,
        "The store has no record of this run.",
        "Give the uid of a workflow that ran on this cube, as its stages had it in ACD_RUN_ID.",
    )
    RETENTION_TOO_SHORT = _config(
        520,
        "The retention is shorter than a job may run.",
        "Give --keep-days 2 or more, or stop all jobs and servers of the cube and add --unsafe-short-retention.",
    )
    TIDY_UNSURE = _input(
        521,
        "A document that lists files in use cannot be read, so tidy stopped.",
        "Restore the named document, or recreate its product; no file that it could list was deleted.",
    )
    WEB_CREDENTIALS = _config(
        531,
        "The credentials for a web server are invalid or incomplete.",
        "Set ACD_WEB_TOKEN to the token and ACD_WEB_TOKEN_HOST to its host, or correct ~/.netrc.",
    )
    WEB_ADDRESS = _config(
        532, "A URL is not valid.", "Give http:// or https://, a host and the path of a file, without user or password."
    )
    MONITORS_INVALID = _config(
        540,
        "Monitors cannot run with their settings and areas.",
        "Correct what the message names in the values of the chart, and install again.",
    )
    MONITORS_UNCHECKED = _transient(
        541,
        "Monitors could not be checked, since a server did not respond.",
        "Check the named address, and try again.",
    )
    EVENT_DAMAGED = _input(
        542,
        "A file of the outbox is damaged.",
        "Restore the file from a backup, or delete it: its event is then lost.",
    )
    EVENT_REFUSED = _config(
        543,
        "The receiver rejected an event, which was set aside.",
        "Correct the receiver, then send it with 'acdtask notify --resend-refused'.",
    )
    EVENTS_BEING_SENT = _transient(
        544,
        "Another process is sending the events of this area.",
        "Run the command again in a few minutes; a process that was killed gives way by then.",
    )
    RUN_STOPPED = _input(
        545,
        "A run ended without reporting it: it was stopped or terminated, or its last pod was lost.",
        "Submit the workflow again: it does only what is missing.",
    )
    UNUSABLE_FILES = _input(
        548,
        "More files of the source cannot be used than --unusable-files allows.",
        "Correct or remove the named files, or raise --unusable-files to go on without them.",
    )
    WEBHOOK_INVALID = _config(
        600,
        "The webhook address is invalid.",
        "Give http:// or https:// and a host, without user or password; put a token into ACD_WEBHOOK_AUTHORIZATION.",
    )
    WEBHOOK_UNREACHABLE = _transient(
        601,
        "The webhook cannot be reached or is busy.",
        "Check that the receiver is running and reachable from here; the same command posts the same event again.",
    )
    WEBHOOK_REFUSED = _config(
        602,
        "The webhook rejected the event.",
        "Check the address and the value of ACD_WEBHOOK_AUTHORIZATION with the operator of the receiver.",
    )
    GEOCUBE_UNREACHABLE = _transient(
        700,
        "The Geocube server does not respond.",
        "Check the address and the network; the same command continues where it stopped.",
    )
    GEOCUBE_DENIED = _config(
        701, "The Geocube server rejected the API key.", "Set ACD_GEOCUBE_KEY to a key that the server accepts."
    )
    GEOCUBE_TLS = _config(
        702,
        "The Geocube server and this client do not agree on TLS.",
        "Use geocubes:// for a server with TLS, geocube:// for one without; for a private CA, set ACD_GEOCUBE_CA_FILE.",
    )
    GEOCUBE_REFUSED = _config(
        703, "The Geocube server rejected the request.", "Correct what the server's message names."
    )
    GEOCUBE_FAILED = _input(704, "The Geocube server failed.", "Check the server's log at the time of the message.")
    IMAGE_FAILED = _input(
        705,
        "The Geocube server could not read an image.",
        "Restore the named file at the path that the server reads, or exclude the record.",
    )
    JOB_UNKNOWN = _config(706, "The cube has no such job.", "List the jobs with 'acdtask geocube jobs'.")
    JOB_CONFLICT = _config(707, "A job with that name already exists.", "Give the job another name.")
    JOB_STATE = _config(708, "The state of the job does not allow this.", "Check the job's state and log first.")
    JOB_STUCK = _input(
        709,
        "A job of the cube failed and waits for a decision.",
        "Fix the cause of the job's last error, then retry it, or cancel it to release its datasets.",
    )
    DATASET_LOCKED = _input(
        710, "Another job is working on these datasets.", "Wait for the named job, or cancel it if it failed."
    )
    SERVE_FAILED = _config(
        711, "The server cannot start.", "Choose another port, or correct the file that the message names."
    )
    GRID_TOO_COARSE = _config(
        712,
        "An image on this grid would need more source pixels than acd can read at once.",
        "Request a finer grid, a smaller area or fewer records.",
    )
    AREA_TOO_COMPLEX = _config(
        713,
        "An area has more points, crossings or cells than acd can process at once.",
        "Simplify the area so that it does not cross itself, or request it in parts.",
    )
    JOB_FAILED = _input(
        715, "A job of the cube ended without a result.", "Check the job's log, then start it again under another name."
    )
    JOB_RUNNING = _transient(716, "A job of the cube has not finished.", "Follow it again later, or give it more time.")
    INGESTER_UNREACHABLE = _transient(
        720,
        "The ingester does not respond.",
        "Check the address and the network; the same command continues where it stopped.",
    )
    INGESTER_DENIED = _config(
        721, "The ingester rejected the token.", "Set ACD_INGESTER_TOKEN to the ingester's bearer token."
    )
    INGESTER_REFUSED = _config(722, "The ingester rejected the request.", "Correct what the ingester's message names.")
    INGESTER_FAILED = _input(
        723,
        "Scenes or tiles of the ingester failed permanently.",
        "Fix the causes in the messages of the named scenes, then run 'acdtask ingester retry'.",
    )
    INGESTER_WAITING = _transient(
        724,
        "The ingester has not finished.",
        "Run the same command again later, or give it more time: --wait-minutes of 'acdtask ingest', --minutes of "
        "'acdtask ingester wait'.",
    )
    BUG = _bug(900, "acd ran into an unexpected condition: a bug.", "Report it with the log; the cube is unchanged.")

    @property
    def label(self) -> str:
        """The error's public name, as messages and pages quote it.

        >>> ErrorCode.AOI_EMPTY.label
        'ACD-111'
        """
        return f"ACD-{self.value.number}"
