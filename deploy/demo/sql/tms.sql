-- The transport management system: MariaDB or MySQL, AUTO_INCREMENT keys, times in UTC, money in minor
-- units. Milestones are published through a transactional outbox.
-- Load it as root; it makes database `tms`.

CREATE DATABASE tms CHARACTER SET utf8mb4;
USE tms;

CREATE TABLE carriers (
    id             INT AUTO_INCREMENT PRIMARY KEY,
    scac           VARCHAR(8) NOT NULL UNIQUE,
    name           VARCHAR(80) NOT NULL,
    region         VARCHAR(4) NOT NULL CHECK (region IN ('EU', 'US')),
    code_standard  VARCHAR(8) NOT NULL DEFAULT 'REC24'
) ENGINE=InnoDB;

CREATE TABLE loads (
    id             INT AUTO_INCREMENT PRIMARY KEY,
    load_no        VARCHAR(20) NOT NULL UNIQUE,
    carrier_id     INT NULL,
    equipment      VARCHAR(12) NOT NULL DEFAULT 'TRAILER',
    tender_state   VARCHAR(12) NOT NULL DEFAULT 'none',   -- follows the tenders, see the triggers
    planned_pickup DATETIME(3) NULL,
    CONSTRAINT load_carrier FOREIGN KEY (carrier_id) REFERENCES carriers (id)
) ENGINE=InnoDB;

CREATE TABLE stops (
    id             INT AUTO_INCREMENT PRIMARY KEY,
    load_id        INT NOT NULL,
    stop_seq       TINYINT NOT NULL,
    stop_role      VARCHAR(10) NOT NULL CHECK (stop_role IN ('pickup', 'delivery')),
    planned_at     DATETIME(3) NULL,
    UNIQUE (load_id, stop_seq),
    CONSTRAINT stop_load FOREIGN KEY (load_id) REFERENCES loads (id)
) ENGINE=InnoDB;

CREATE TABLE tenders (
    id             INT AUTO_INCREMENT PRIMARY KEY,
    load_id        INT NOT NULL,
    carrier_id     INT NOT NULL,
    attempt        TINYINT NOT NULL DEFAULT 1,
    state          VARCHAR(12) NOT NULL DEFAULT 'sent'
                   CHECK (state IN ('sent', 'accepted', 'declined', 'expired', 'withdrawn')),
    sent_at        DATETIME(3) NOT NULL,
    UNIQUE (load_id, attempt),
    CONSTRAINT tender_load FOREIGN KEY (load_id) REFERENCES loads (id),
    CONSTRAINT tender_carrier FOREIGN KEY (carrier_id) REFERENCES carriers (id)
) ENGINE=InnoDB;

CREATE TABLE shipments (
    id             INT AUTO_INCREMENT PRIMARY KEY,
    site           VARCHAR(4) NOT NULL,
    shipment_no    VARCHAR(20) NOT NULL UNIQUE,
    load_id        INT NOT NULL,
    planned_ship   DATETIME(3) NULL,
    CONSTRAINT shipment_load FOREIGN KEY (load_id) REFERENCES loads (id)
) ENGINE=InnoDB;

CREATE TABLE costs (
    id             INT AUTO_INCREMENT PRIMARY KEY,
    shipment_id    INT NOT NULL,
    charge_code    VARCHAR(8) NOT NULL,
    version        INT NOT NULL DEFAULT 1 CHECK (version > 0),
    amount_minor   BIGINT NULL,
    currency       CHAR(3) NOT NULL,
    UNIQUE (shipment_id, charge_code, version),
    CONSTRAINT cost_shipment FOREIGN KEY (shipment_id) REFERENCES shipments (id)
) ENGINE=InnoDB;

CREATE TABLE milestones (
    id             INT AUTO_INCREMENT PRIMARY KEY,
    milestone_ref  VARCHAR(40) NOT NULL UNIQUE,
    shipment_id    INT NOT NULL,
    partner        VARCHAR(8) NOT NULL,
    code           VARCHAR(4) NOT NULL,
    stop_role      VARCHAR(10) NOT NULL,
    event_time     DATETIME(3) NOT NULL,
    CONSTRAINT milestone_shipment FOREIGN KEY (shipment_id) REFERENCES shipments (id)
) ENGINE=InnoDB;

-- What the rest of the company may know. The application writes it in the same transaction as
-- the milestone itself.
CREATE TABLE outbox (
    id             BIGINT AUTO_INCREMENT PRIMARY KEY,
    aggregatetype  VARCHAR(40) NOT NULL,
    aggregateid    VARCHAR(40) NOT NULL,
    type           VARCHAR(40) NOT NULL,
    payload        JSON NOT NULL,
    created_at     TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
) ENGINE=InnoDB;

CREATE TRIGGER tender_sent AFTER INSERT ON tenders FOR EACH ROW
    UPDATE loads SET tender_state = NEW.state, carrier_id = NEW.carrier_id WHERE id = NEW.load_id;
CREATE TRIGGER tender_answered AFTER UPDATE ON tenders FOR EACH ROW
    UPDATE loads SET tender_state = NEW.state WHERE id = NEW.load_id;

CREATE USER 'tms_app'@'%' IDENTIFIED BY 'tms-app';
GRANT SELECT, INSERT, UPDATE, DELETE ON tms.* TO 'tms_app'@'%';
